"""Figures of a run, drawn from its result files and its log."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import ImageOps

from geoalign.data.images import open_rgb
from geoalign.data.records import ImageRecord, PairRecord, PairSource
from geoalign.draw.curves import Curve, save_curves
from geoalign.draw.matches import Panel, save_panels
from geoalign.files import read_json
from geoalign.geometry import letterbox_points
from geoalign.report.runs import SUFFIX
from geoalign.report.verdicts import verdicts
from geoalign.results.predictions import predictions_path, read_predictions

if TYPE_CHECKING:
    import pandas as pd

VALIDATION = "validation.json"
"""Beside the results of the frozen features: their scores on the validation sets."""
SHOWN = 6
SIDE = 640
"""Px of a picture's longer side, as drawn."""
FEW = 5
"""Pairs with fewer keypoints are drawn only where there are no others."""


def match_panels(folder: Path, dataset: str, source: PairSource, pairs: int = SHOWN) -> Path | None:
    """Fixed test pairs under every result of the run: before training left, after right."""
    tables = {}
    for name, method in (("zero-shot", "plain"), ("refined", "plain"), ("refined", "aligned")):
        path = predictions_path(folder / "results" / name, dataset, method)
        if path.is_file():
            tables[name + SUFFIX[method]] = read_predictions(path).table
    if not tables:
        return None
    chosen = choose(source, next(iter(tables.values())), pairs)
    columns = {}
    for name, table in tables.items():
        drawn = table[table["pair_id"].isin([pair.pair_id for pair in chosen])]
        drawn = drawn.assign(verdict=verdicts(drawn, source))
        columns[name] = [panel(pair, drawn[drawn["pair_id"] == pair.pair_id]) for pair in chosen]
    out = folder / "figures" / f"matches-{dataset}.png"
    save_panels(columns, out)
    return out


def choose(source: PairSource, table: pd.DataFrame, pairs: int) -> list[PairRecord]:
    """Pairs spread over categories, drawn by their ids: the same for every run, and not the easy ones."""
    points = table.groupby("pair_id").size()
    records = [pair for pair in source if pair.pair_id in points.index]
    by_category: dict[str, list[PairRecord]] = {}
    for pair in sorted(records, key=lambda p: (points[p.pair_id] < FEW, sha256(p.pair_id.encode()).digest())):
        by_category.setdefault(pair.category, []).append(pair)
    ranked = [(place, category, pair) for category, own in by_category.items() for place, pair in enumerate(own)]
    return [pair for _, _, pair in sorted(ranked, key=lambda r: r[:2])[:pairs]]


def panel(pair: PairRecord, rows: pd.DataFrame) -> Panel:
    """One pair with its predictions and their ``verdict``."""
    src_xy, predicted, true = (
        letterbox_points(pair.src.xy_px, pair.src.size, framing=pair.src.framing)[rows["slot"]],
        rows[["x_px", "y_px"]].to_numpy(),
        rows[["true_x_px", "true_y_px"]].to_numpy(),
    )
    verdict = rows["verdict"].tolist()
    ends = " → ".join(record.image_id.split("/")[-1] for record in (pair.src, pair.trg))
    title = f"{pair.category} {ends}: {verdict.count('correct')}/{len(rows)}"
    pictures = _picture(pair.src), _picture(pair.trg)
    return Panel(*pictures, src_xy, predicted, true, verdict, title, framing=pair.src.framing)


def curves(folder: Path) -> Path | None:
    """Loss and PCK over training, from the csv log; None where there is none."""
    table = read_log(folder / "csv")
    if table is None:
        return None
    losses = {name.removeprefix("train/loss/"): _curve(table, name) for name in table if name.startswith("train/loss/")}
    keys = [k for k in table if k.startswith("val/") and k.endswith("/keypoint") and "pck@" in k and k.count("/") == 3]
    names = {key: key.removeprefix("val/").removesuffix("/keypoint").replace("/pck", " ") for key in sorted(keys)[::-1]}
    scores = {name: _curve(table, key, 100) for key, name in names.items()}
    start = folder / "results" / "zero-shot" / VALIDATION
    frozen = read_json(start) if start.is_file() else {}
    levels = {name: 100 * frozen[key] for key, name in names.items() if key in frozen}
    out = folder / "figures" / "curves.png"
    save_curves({"training loss": losses, "validation PCK (%) per keypoint": scores}, out, levels=levels)
    return out


def read_log(folder: Path) -> pd.DataFrame | None:
    """A run's csv log; None where there is none."""
    import pandas as pd

    log = folder / "metrics.csv"
    return pd.read_csv(log) if log.is_file() and log.stat().st_size else None


def _curve(table: pd.DataFrame, name: str, factor: float = 1.0) -> Curve:
    rows = table[["step", name]].dropna()
    return rows["step"].tolist(), (rows[name] * factor).tolist()


def _picture(record: ImageRecord) -> np.ndarray:
    return np.asarray(ImageOps.contain(open_rgb(record.path, record.size), (SIDE, SIDE)))
