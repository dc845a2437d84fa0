"""From a folder of photographs without labels to a refiner: ``geoalign adapt FOLDER``."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from geoalign.apps.inputs import usable_device
from geoalign.apps.judge import Verdict, before_after, judge
from geoalign.apps.labelled import labelled_sets, read_labels
from geoalign.apps.learning import doubtful, faced, label, lonely, split
from geoalign.apps.photographs import Photograph, read_folder
from geoalign.apps.training import Plan, cut_backbone, fit, learner
from geoalign.data.readers.pseudo import PseudoFile, write_pseudo
from geoalign.data.records import DataError
from geoalign.options.entry import composed, plain
from geoalign.pseudo.label import Labelled, Set, facts, table
from geoalign.publish import save
from geoalign.refiner.base import Refiner
from geoalign.refiner.tail import frozen_features

FEWEST = 6
"""Photographs: three make a chain, and the rest of them is held out."""
LABELS, PICTURE, ABOUT = "labels.parquet", "before-after.png", "adapted.json"
EXAMPLES = ("geoalign adapt photos --out adapted", "geoalign match a.jpg b.jpg --model adapted --grid 12")
MATCHER = {"_target_": "geoalign.matching.Matcher", "radius": 5}


@dataclass(frozen=True)
class Adapted:
    """What came out: the folder, the verdict, whether a refiner lies there, and a line on each file left out."""

    folder: Path
    verdict: Verdict
    kept: bool
    skipped: tuple[str, ...]


def adapt(
    folder: str | Path,
    out: str | Path = "adapted",
    model: str = "lite",
    labels: str | Path | None = None,
    steps: int = 120,
    seed: int = 0,
    device: str | None = None,
    progress: bool = True,
) -> Adapted:
    """Learn from a folder's photographs how their parts correspond, without labels or with a few.

    Photographs in subfolders are of the kinds that the subfolders name. ``out`` holds the refiner with its card (where
    it got better: ``geoalign.load(out)``), the pseudo-labels, a picture of matches before and after, and what was
    found (``adapted.json``); it appears whole or not at all.

    Args:
        folder: of photographs
        out: folder to write; must not be there yet
        model: the frozen backbone, by its name
        labels: csv with columns image, keypoint, x, y, or COCO keypoints: true points of some of the photographs
        steps: of training
        seed: of everything random
        device: the accelerator where there is one
        progress: show bars

    Raises:
        ValueError: too few photographs, none that agree, an ``out`` that is there, or labels of none of them.
    """
    folder, out, device = Path(folder), Path(out), usable_device(device)
    if out.exists():
        raise ValueError(f"{out}: expected a folder that is not there yet, got an existing one; choose another --out")
    points = None if labels is None else read_labels(Path(labels))
    backbone, cut = cut_backbone(model)
    backbone = backbone.to(device)
    frozen = frozen_features(backbone.channels, backbone.grid, backbone.groups, backbone.rest, centre=True)
    photographs, skipped = read_folder(folder, backbone, frozen, device)
    if len(photographs) < FEWEST:
        got = f"{len(photographs)} that can be used" + "".join(f"; {line}" for line in skipped[:3])
        raise DataError.at(folder, "photographs", f"at least {FEWEST}", got, "add photographs of the same kind")
    train, held = split(photographs, seed)
    found = label(train, seed)
    if not found.sets:
        raise DataError.at(
            folder, "photographs", "matches that agree between some of them", "none",
            "put each kind of thing into a subfolder of its own, or give photographs that show it from alike sides",
        )  # fmt: skip
    skipped += lonely(train, found) + doubtful(photographs)
    truth = [] if points is None else labelled_sets(points, [one.record for one in train], len(found.sets), seed)
    with TemporaryDirectory(dir=made(out.parent)) as room:
        work = Path(room) / "adapted"
        work.mkdir()
        write_labels(work, folder, train, [*found.sets, *truth], found, model, seed)
        refiner = fit(
            learner(backbone, seed), work / LABELS, train, Plan(steps=steps, seed=seed, progress=progress), device
        )
        turned = faced([*held, *train], seed)
        verdict = judge(held, turned[: len(held)].tolist(), frozen, refiner)
        kept = verdict.better or (not verdict.rounds and bool(truth))
        if kept:
            publish(refiner, work, model, cut, labels is not None)
        shown = sorted(
            zip([*held, *train], turned.tolist(), strict=True), key=lambda one: (one[0] not in held, *_clutter(one[0]))
        )
        picture(shown, frozen, refiner).save(work / PICTURE, format="PNG")
        about = {"verdict": verdict._asdict(), "kept": kept, "photographs": len(photographs), "skipped": skipped}
        (work / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        shutil.move(str(work), str(out))
    return Adapted(out, verdict, kept, tuple(skipped))


def _clutter(photograph: Photograph) -> tuple[bool, int]:
    """Least for compact subjects: what is large may hold background."""
    return bool(photograph.doubt), len(photograph.subject.upright.xy_px)


def picture(shown: Sequence[tuple[Photograph, bool]], frozen: Refiner, refiner: Refiner) -> Image.Image:
    """Matches before and after between the first photograph and the next of its kind; each says if it is mirrored."""
    (src, src_turned), *others = shown
    trg, trg_turned = next((one for one in others if one[0].record.category == src.record.category), others[0])
    return before_after(src, trg, (src_turned, trg_turned), frozen, refiner)


def write_labels(
    work: Path, folder: Path, train: Sequence[Photograph], sets: Sequence[Set], found: Labelled, model: str, seed: int
) -> None:
    """The file of pseudo-labels; px of the photographs as a viewer shows them."""
    records = [one.record for one in train]
    protocol = {"made_by": "geoalign adapt", "backbone": model, "seed": seed, "left_out": dict(found.left_out)}
    write_pseudo(work / LABELS, PseudoFile(table(sets, records), facts(records, folder), protocol))


def publish(refiner: Refiner, work: Path, model: str, cut: Sequence[str], labelled: bool) -> None:
    """Weights that say their backbone and matcher, the recipe and the card."""
    how = "with a few true points" if labelled else "without keypoint labels"
    backbone = plain(composed("evaluate", [f"backbone={model}", *cut]).backbone)
    said = f"`{model}`; trained by `geoalign adapt` {how}"
    save(refiner, work, backbone=said, around={"backbone": backbone, "matcher": MATCHER})


def made(folder: Path) -> Path:
    """The folder, made where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    own = argparse.ArgumentParser(
        "geoalign adapt",
        description="Learn from a folder of photographs, without labels, how their parts correspond.",
        epilog="\n  ".join(["examples:", *EXAMPLES]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    own.add_argument(
        "folder", type=Path, metavar="FOLDER", help="photographs of one kind, or a subfolder for each kind"
    )
    own.add_argument("--out", type=Path, default=Path("adapted"), help="folder to write (adapted)")
    own.add_argument("--model", default="lite", help="the frozen backbone (lite)")
    own.add_argument(
        "--labels", type=Path, metavar="FILE", help="csv (image, keypoint, x, y) or COCO: true points of a few"
    )
    own.add_argument("--steps", type=int, default=120, help="of training (120)")
    own.add_argument("--seed", type=int, default=0, help="of everything random (0)")
    own.add_argument("--device", help="cpu, cuda, ... (the accelerator where there is one)")
    return own


def main(words: Sequence[str] | None = None) -> int:
    """``geoalign adapt``; 0 when it did its work, 1 with one line on what was wrong."""
    options = parser().parse_args(words)
    try:
        done = adapt(**vars(options))
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    for line in done.skipped:
        print(line, file=sys.stderr)
    print(done.verdict)
    if done.kept:
        print(f"the refiner is in {done.folder}; use it with --model {done.folder}")
    else:
        frozen = f"--model {options.model} --refiner none"
        print(f"no refiner was kept: use the frozen features ({frozen}); see {done.folder / PICTURE}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
