"""Draws the pictures of README and docs again: ``make figures``, or ``python -m benchmarks.pictures [names]``.

Runs lie in ``runs/pictures`` and are kept: a picture whose run is there is only drawn. Photographs are those of
LivestockKeypoints (docs/data.md); where they are absent, their pictures are left as they are, and it is said.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from hydra.utils import instantiate
from PIL import Image, ImageDraw, ImageOps

from benchmarks import scaling
from geoalign.data.batch.collate import view_slots
from geoalign.data.batch.views import PixelLoader, ViewRef
from geoalign.data.readers.livestock import Livestock
from geoalign.data.readers.synthetic import Synthetic
from geoalign.data.records import PairRecord
from geoalign.draw.canvas import colours, dot
from geoalign.draw.matches import Panel
from geoalign.draw.sides import draw_sides
from geoalign.files import read_json
from geoalign.geometry import FRAME_PX, letterbox_points, unletterbox_points
from geoalign.options.entry import composed
from geoalign.report.figures import panel
from geoalign.report.verdicts import verdicts
from geoalign.results.predictions import predictions_path, read_predictions

ROOT = Path(__file__).parents[1]
FIGURES, RUNS = ROOT / "docs" / "figures", Path("runs") / "pictures"
TILE = 280
"""Px of a view of ``augmented.jpg``."""
ENOUGH = 14
"""Keypoints of a pair that is shown."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the pictures that are named, or all."""
    parser = argparse.ArgumentParser("pictures", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MAKERS)} (all)")
    parser.add_argument("--livestock", type=Path, default=Path("data/livestock"), help="photographs (data/livestock)")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - MAKERS.keys():
        parser.error(f"no picture is called {', '.join(sorted(unknown))}; there are {', '.join(MAKERS)}")
    for name in options.names or MAKERS:
        if name in OF_PHOTOGRAPHS and not options.livestock.is_dir():
            print(f"{name}: left as it is: no photographs at {options.livestock}; --livestock names another folder")
            continue
        for line in MAKERS[name](options.livestock):
            print(f"{name}: {line}", flush=True)
    return 0


def first_sight(photographs: Path) -> list[str]:
    """README's picture: a typical pair of every species before and after training, left and right told apart."""
    run = RUNS / "livestock"
    _train(run, "experiment=livestock/refined", "baseline=true", f"data.root={photographs}")
    source = Livestock(photographs, "test")
    tables = {name: _judged(run / "results" / name, source) for name in ("zero-shot", "refined")}
    chosen = typical(list(source), tables)
    columns: dict[str, list[tuple[Panel, list[int]]]] = {name: [] for name in tables}
    for pair in chosen:
        own = {name: table[table["pair_id"] == pair.pair_id] for name, table in tables.items()}
        sides = [source.symmetries[pair.category].side[slot] for slot in own["refined"]["slot"]]
        for name, near in zip(own, closer([panel(pair, rows) for rows in own.values()]), strict=True):
            columns[name].append((near, sides))
    labels = {"zero-shot": "frozen features", "refined": "after training on 390 photographs"}
    right = {name: [v == "correct" for near, _ in made for v in near.verdicts] for name, made in columns.items()}
    titled = {f"{labels[name]}: {sum(right[name])} of {len(right[name])} right": columns[name] for name in columns}
    path = FIGURES / "first-sight.jpg"
    draw_sides(titled).save(path, quality=82, optimize=True)
    return [f"wrote {path}, pairs {', '.join(pair.pair_id for pair in chosen)}"]


def closer(panels: Sequence[Panel], margin: float = 0.12) -> list[Panel]:
    """Panels of one pair, cut around all their points and a share of these points' extent beside them."""
    corners, cut = [], []
    for picture, names in ((panels[0].source, ["src_xy_px"]), (panels[0].target, ["predicted_px", "true_px"])):
        size = picture.shape[0], picture.shape[1]
        xy = np.concatenate([unletterbox_points(getattr(one, name), size) for one in panels for name in names])
        beside = margin * np.ptp(xy, axis=0).max()
        x1, y1 = np.maximum(np.floor(xy.min(0) - beside), 0).astype(int)
        x2, y2 = np.ceil(xy.max(0) + beside).astype(int)
        corners.append((np.array([x1, y1]), size))
        cut.append(picture[y1:y2, x1:x2])

    def moved(xy_px: np.ndarray, end: int) -> np.ndarray:
        corner, size = corners[end]
        return letterbox_points(unletterbox_points(xy_px, size) - corner, cut[end].shape[:2])

    return [
        one._replace(
            source=cut[0], target=cut[1], src_xy_px=moved(one.src_xy_px, 0),
            predicted_px=moved(one.predicted_px, 1), true_px=moved(one.true_px, 1),
        )
        for one in panels
    ]  # fmt: skip


def typical(pairs: Sequence[PairRecord], tables: dict[str, pd.DataFrame]) -> list[PairRecord]:
    """Of every category the pair whose shares of right matches are nearest to those of the whole set."""
    shares = pd.DataFrame({name: table.groupby("pair_id")["verdict"].apply(_right) for name, table in tables.items()})
    shares = shares[next(iter(tables.values())).groupby("pair_id").size() >= ENOUGH]
    wanted = pd.Series({name: _right(table["verdict"]) for name, table in tables.items()})
    distance = ((shares - wanted) ** 2).sum(axis=1)
    best: dict[str, PairRecord] = {}
    for pair in sorted((p for p in pairs if p.pair_id in distance), key=lambda p: (distance[p.pair_id], p.pair_id)):
        best.setdefault(pair.category, pair)
    return [best[name] for name in sorted(best)]


def dashboard(photographs: Path) -> list[str]:
    """docs/dashboard.md: what a run of the default recipe logs, offline, after its last validation."""
    run = RUNS / "default"
    _train(run, "logger=wandb", "callbacks=dashboard", "callbacks.figures.pairs=2", WANDB_MODE="offline")
    last = sorted((run / "figures").rglob("*-matches.png"))[-1]
    made = {
        "matches": last, "features": last.with_name(last.name.replace("matches", "features")),
        "azimuth": next((run / "figures").rglob("azimuth-*.png")), "curves": run / "figures" / "curves.png",
    }  # fmt: skip
    for name, path in made.items():
        Image.open(path).convert("RGB").quantize(256).save(FIGURES / f"dashboard_{name}.png", optimize=True)
    return [f"wrote dashboard_{name}.png from {path}" for name, path in made.items()]


def confidence(photographs: Path) -> list[str]:
    """docs/own-images.md: the reliability of a confidence fitted on validation and judged on test photographs."""
    runs = {"val": RUNS / "evidence-val", "test": RUNS / "evidence-test"}
    for split, run in runs.items():
        if not (run / "results").is_dir():
            words = [
                "data=livestock",
                "refiner=identity",
                "alignment=off",
                "callbacks=evidence",
                f"data.root={photographs}",
            ]
            _call("evaluate.py", *words, f"data.test.livestock.split={split}", f"hydra.run.dir={run}")
    out = RUNS / "confidence"
    _call("-m", "geoalign.report.analyse", "confidence", *map(str, runs.values()), "--out", str(out))
    (drawn,) = out.glob("*reliability*.png")
    return [f"wrote {shutil.copy(drawn, FIGURES / 'confidence-reliability.png')}"]


def augmented(photographs: Path) -> list[str]:
    """docs/data.md: generated subjects as they are, and in four draws of ``data/augment=simplematch``, points drawn."""
    least = {"trn": 1, "val": 2, "test": 2}
    images = Synthetic("cache", "trn", images={**least, "trn": 2}, pairs=least).images
    draws = instantiate(composed("train", ["data/augment=simplematch", "store=off"]).data.augment)
    rows = []
    for row, image in enumerate({image.category: image for image in images}.values()):
        plain = ViewRef(image)
        tiles = [plain, *(draws(plain, np.random.default_rng([row, n]), FRAME_PX) for n in range(4))]
        frames = PixelLoader([TILE])(tiles)["images"][TILE].permute(0, 2, 3, 1).numpy()
        rows.append(np.concatenate([_dotted(frame, tile) for frame, tile in zip(frames, tiles, strict=True)], 1))
    path = FIGURES / "augmented.jpg"
    Image.fromarray(np.concatenate(rows)).save(path, quality=85, optimize=True)
    return [f"wrote {path}"]


def _dotted(frame: np.ndarray, view: ViewRef) -> np.ndarray:
    """A view with its points, as training moves them."""
    xy, visible = view_slots(view, np.arange(len(view.image.xy_px)))
    page = Image.fromarray(frame)
    for at, colour in enumerate(colours(len(xy))):
        if visible[at]:
            dot(ImageDraw.Draw(page), xy[at] * TILE / FRAME_PX, colour, 3.5)
    return np.asarray(ImageOps.expand(page, 3, "white"))


def growth(photographs: Path) -> list[str]:
    """docs/performance.md: drawn from what was measured; ``python -m benchmarks.scaling`` measures again."""
    return [f"wrote {path}" for path in scaling.draw(read_json(scaling.RESULTS))]


def page(photographs: Path) -> list[str]:
    """docs/own-images.md: the web page in a browser with two horses, points and the dense tab."""
    from benchmarks.screenshots import shoot

    seen = ((pair, np.flatnonzero(pair.visible)) for pair in Livestock(photographs, "test"))
    pair, slots = next((pair, slots) for pair, slots in seen if pair.category == "horse" and len(slots) >= ENOUGH)
    return [f"wrote {path}, pair {pair.pair_id}" for path in shoot(FIGURES, pair, slots[:: len(slots) // 3])]


OF_PHOTOGRAPHS = {"first-sight", "confidence", "page"}
MAKERS: dict[str, Callable[[Path], list[str]]] = {
    "first-sight": first_sight, "dashboard": dashboard, "confidence": confidence, "augmented": augmented,
    "scaling": growth, "page": page,
}  # fmt: skip


def _train(run: Path, *words: str, **environment: str) -> None:
    if not (run / "results" / "refined" / "summary.json").is_file():
        _call("train.py", *words, f"hydra.run.dir={run}", "resume=auto", **environment)


def _call(*words: str, **environment: str) -> None:
    subprocess.run([sys.executable, *words], check=True, env={**os.environ, **environment})


def _judged(folder: Path, source: Livestock) -> pd.DataFrame:
    table = read_predictions(predictions_path(folder, "livestock", "plain")).table
    return table.assign(verdict=verdicts(table, source))


def _right(verdict: pd.Series) -> float:
    return float((verdict == "correct").mean())


if __name__ == "__main__":
    raise SystemExit(main())
