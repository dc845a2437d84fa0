"""What photographs teach without keypoints: ``python -m geoalign.report.unlabelled results/unlabelled``.

Reads what ``benchmarks.run_rows`` left, and the files of pseudo-labels, whose points are held against the training
split's hidden keypoints: that is said, and used for nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from geoalign.data.readers.livestock import Livestock
from geoalign.data.readers.pseudo import PseudoFile, read_pseudo
from geoalign.data.records import ImageRecord, pck_size_px
from geoalign.metrics.pck import Score
from geoalign.report.ablation import read_steps, spread
from geoalign.report.livestock import NAMES, SCORES, image_interval
from geoalign.report.pages import page, parser, write
from geoalign.report.table import Cell, Table
from geoalign.results.predictions import ResultsError
from geoalign.symmetry import Symmetry

FROZEN = {"livestock-zero_shot": "zero-shot", "livestock-zero_shot_ways": "zero-shot, the source's flip tried"}
TRAINED = {
    "pseudo": "pseudo-labels",
    "ways": "the same weights, flips tried, and a second look",
    "again": "a second round, labelled by the first",
    "alike": "chains of four, each photograph one of the most alike",
    "no_opposite": "without sets that face both ways",
    "no_way_back": "without the way back",
    "no_agreement": "without geometric agreement",
    "no_flips": "without both flips",
    "no_mirror": "matched as they are, whichever way they face",
    "teacher": "and dense matches of the weights' average",
    "oracle": "true keypoints on the same sets: an oracle",
    "few_4": "4 labelled photographs of each species alone",
    "then_4": "4 labelled photographs after pseudo-labels",
    "few_8": "8 labelled photographs of each species alone",
    "then_8": "8 labelled photographs after pseudo-labels",
}
KINDS = {f"{name} @0.10": Score("all", name, 0.10, "keypoint") for name in ("horse", "sheep", "cattle")}
NEAR = 0.04
"""A point is held against a keypoint that lies within this share of the animal's size."""
ALPHA = 0.10


class Held(NamedTuple):
    """Pseudo-labels against hidden keypoints: sets, points of a set, matches held against one, and the share right."""

    sets: int
    points: float
    held: int
    precision: float


def hold(file: PseudoFile, records: Mapping[str, ImageRecord], symmetries: Mapping[str, Symmetry]) -> Held:
    """Every ordered pair of a set; a mirrored photograph's keypoints are those of its mirror image."""
    right: list[bool] = []
    for _, rows in file.table.groupby("set", sort=False):
        shown = [_shown(own, records[str(name)], symmetries) for name, own in rows.groupby("image", sort=False)]
        for src in shown:
            for trg in shown:
                if src is not trg:
                    right += _judged(src, trg).tolist()
    sets = file.table["set"].nunique()
    points = len(file.table[["set", "point"]].drop_duplicates()) / sets
    return Held(sets, points, len(right), float(np.mean(right)) if right else float("nan"))


class _Shown(NamedTuple):
    """A photograph of a set as it stands there; lengths in sizes of its animal."""

    point: np.ndarray
    xy: Float[np.ndarray, "k 2"]
    keypoints: Float[np.ndarray, "n 2"]
    visible: Bool[np.ndarray, "n"]


def _shown(rows: object, record: ImageRecord, symmetries: Mapping[str, Symmetry]) -> _Shown:
    import pandas as pd

    assert isinstance(rows, pd.DataFrame)
    size, width = pck_size_px(record, "box"), record.size[1]
    xy, keypoints, visible = rows[["x", "y"]].to_numpy(float), record.xy_px.astype(float), record.visible
    if bool(rows["mirrored"].iloc[0]):
        partner = symmetries[record.category].permutation(len(visible))
        xy, keypoints = (np.stack([width - both[:, 0], both[:, 1]], 1) for both in (xy, keypoints))
        keypoints, visible = keypoints[partner], visible[partner]
    return _Shown(rows["point"].to_numpy(), xy / size, keypoints / size, visible)


def _judged(src: _Shown, trg: _Shown) -> Bool[np.ndarray, "m"]:
    """For the points near a keypoint that both show: whether the target's lies as near to it as it should."""
    _, a, b = np.intersect1d(src.point, trg.point, return_indices=True)
    distance = np.linalg.norm(src.xy[a][:, None] - src.keypoints[None], axis=-1)
    distance[:, ~(src.visible & trg.visible)] = np.inf
    slot = distance.argmin(1)
    near = distance.min(1) <= NEAR
    offset = src.xy[a] - src.keypoints[slot]
    error = np.linalg.norm(trg.xy[b] - trg.keypoints[slot] - offset, axis=-1)
    return error[near] < ALPHA


def scores(folder: Path) -> Table:
    """Every row's scores, with the first seed's interval over photographs."""
    named = {**FROZEN, **{f"livestock_unlabelled-{name}": label for name, label in TRAINED.items()}}
    there = {name: label for name, label in named.items() if (folder / name).is_dir()}
    if not there:
        raise ResultsError(f"no results below {folder}; run them with: make table-livestock-unlabelled")
    rows: list[list[Cell]] = []
    for step in read_steps(folder, there):
        for method, runs in ((method, runs) for method, runs in step.methods.items() if runs):
            cells: list[Cell] = [spread(step.scores(method, at)) for at in (*SCORES, *KINDS.values())]
            rows.append([step.label, method, *cells, image_interval(next(iter(runs.values())), SCORES[0]), len(runs)])
    return Table("Scores", ["row", "method", *NAMES, *KINDS, "photographs @0.10", "seeds"], rows)


def labels(folder: Path, data: Path) -> Table:
    """Count and precision of each row's pseudo-labels."""
    source = Livestock(data, "trn")
    records = {record.image_id: record for record in source.images}
    rows: list[list[Cell]] = []
    for name, label in TRAINED.items():
        path = folder / f"livestock-{name}.parquet"
        if path.is_file():
            held = hold(read_pseudo(path), records, source.symmetries)
            rows.append([label, held.sets, round(held.points, 1), held.held, round(100 * held.precision, 1)])
    note = (
        f"held: matches of points within {NEAR} of a keypoint that both photographs show; right: within {ALPHA}, in %"
    )
    return Table("The pseudo-labels against hidden keypoints", ["row", "sets", "points", "held", "right"], rows, [note])


ABOUT = (
    "PCK in percent per keypoint on LivestockKeypoints (test), `lite` features. Training reads the training split's "
    "photographs, their species and boxes, and no keypoint but those of the few photographs that a row names; nothing "
    "is selected. Photographs: LivestockKeypoints v1.0 "
    "(Yiwei Wang et al.), CC BY 4.0. Written by `make table-livestock-unlabelled`."
)


def document(folder: Path, pseudo: Path | None = None, data: Path | None = None) -> str:
    """The page; with pseudo-labels and the data whose keypoints they are held against, their precision too.

    Raises:
        ResultsError: no row is there.
    """
    tables = [scores(folder), *([labels(pseudo, data)] if pseudo is not None and data is not None else [])]
    return page("Photographs without keypoints", ABOUT, [table for table in tables if table.rows])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the page, or write it; 2 where there are no results."""
    made = parser("unlabelled", __doc__)
    made.add_argument("--labels", type=Path, help="folder of the rows' pseudo-labels")
    made.add_argument("--data", type=Path, help="livestock, whose keypoints they are held against")
    options = made.parse_args(arguments)
    return write(options.out, lambda: document(options.folder, options.labels, options.data))


if __name__ == "__main__":
    sys.exit(main())
