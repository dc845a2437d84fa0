"""Real photographs, row by row, over seeds: ``python -m geoalign.report.livestock results/livestock``.

Reads what ``benchmarks.run_rows`` left; scores per keypoint, with intervals over pairs and over photographs.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from geoalign.keys import alpha_name
from geoalign.metrics.pck import Score
from geoalign.report.ablation import BySeed, Step, differences, judge, read_steps, spread
from geoalign.report.pages import page, parser, write
from geoalign.report.pose_tables import NOTES, Chosen, chosen_poses
from geoalign.report.runs import Evaluated
from geoalign.report.table import Cell, Signed, Span, Table
from geoalign.results.intervals import bootstrap_intervals
from geoalign.results.predictions import ResultsError, predictions_path, read_predictions
from geoalign.results.summary import SUMMARY_NAME

MAIN = {
    "zero_shot": "zero-shot, as the trained rows read it",
    "zero_shot_best": "zero-shot: 384 and 640 px, 60 x 60 cells, window 3, mean subtracted",
    "refined": "refined",
    "no_frozen": "without the frozen half",
    "mixed": "with half of the cliques across species",
    "no_augmentation": "without pose-variant augmentation",
    "no_dense": "without the dense loss",
    "no_sparse": "without the sparse loss",
    "no_window": "without the window: soft-argmax over the whole map",
    "no_dropout": "without feature dropout",
    "rendered": "trained on rendered animals alone",
    "rendered_read": "the same, read with weight 0.3",
}
WAYS = {f"{name}_ways": MAIN[name] for name in ("zero_shot", "zero_shot_best", "refined")}
"""Rows read with flips tried, and by a second look."""
FEW = {"zero_shot": "zero-shot", "few_4": "4", "few_8": "8", "few_16": "16", "few_32": "32", "refined": "all"}
"""Photographs of each species that were labelled for training."""
ELSEWHERE = {
    "leave_horse": "trained without horse, tested on it",
    "leave_sheep": "trained without sheep, tested on it",
    "leave_cattleA": "trained without cattleA, tested on it",
    "leave_cattleB": "trained without cattleB, tested on it",
    "across": "pairs of two species",
}
FROZEN = "zero_shot_"
"""Before a name of :data:`ELSEWHERE`: the same test set with frozen features."""
ALPHAS = (0.10, 0.05, 0.01)
SCORES = [
    *(Score("all", "all", alpha, "keypoint") for alpha in ALPHAS),
    Score("geometry_aware", "all", 0.10, "keypoint"),
]
NAMES = [*(f"@{alpha_name(alpha)}" for alpha in ALPHAS), "geometry-aware @0.10"]


def read(folder: Path, rows: Mapping[str, str], prefix: str = "livestock-") -> list[Step]:
    """The rows of a table, as :func:`read_steps` does; rows without results are left out."""
    there = {name: label for name, label in rows.items() if any((folder / f"{prefix}{name}").rglob(SUMMARY_NAME))}
    steps = read_steps(folder, {f"{prefix}{name}": label for name, label in there.items()}) if there else []
    return [step for step in steps if step.evaluated]


def image_interval(one: Evaluated, at: Score) -> Span | None:
    """The interval (%) of a score over photographs: pairs that share one are no independent samples."""
    path = predictions_path(one.folder, one.dataset, one.method)
    if not path.is_file():
        return None
    table = read_predictions(path).table
    images = {pair: images_of(pair) for pair in table["pair_id"].unique()}
    ends = bootstrap_intervals(table, [at.alpha], subsets=(at.subset,), images=images).get(at)
    return None if ends is None else Span(*(100 * end for end in ends))


def images_of(pair: str) -> tuple[str, str]:
    """The two photographs that a pair of SPair-71k's layout names.

    >>> images_of("000012-horse_test_003-horse_test_010:horse")
    ('horse_test_003', 'horse_test_010')
    """
    _, src, trg = pair.partition(":")[0].split("-")
    return src, trg


def main_table(
    steps: Sequence[Step],
    base: str = MAIN["refined"],
    called: str = "refined",
    title: str = "Trained and tested in the same places",
) -> Table:
    """Scores of every row, the first seed's intervals, and the change against the row labelled ``base``."""
    first = SCORES[0]
    refined = next((step.scores("plain", first) for step in steps if step.label == base), {})
    rows: list[list[Cell]] = []
    for step in steps:
        one = next(iter(step.methods["plain"].values()))
        change = differences(step.scores("plain", first), refined) if step.label != base else []
        cells: list[Cell] = [spread(step.scores("plain", at)) for at in SCORES]
        ends = [one.interval(first), image_interval(one, first)]
        rows.append([step.label, *cells, *ends, judge(change) if change else None, len(step.methods["plain"])])
    header = ["row", *NAMES, "pairs @0.10", "photographs @0.10", f"to {called} @0.10", "seeds"]
    note = (
        "intervals: 95 %, of the first seed, pairs or photographs resampled; helps or hurts: as in the synthetic table"
    )
    return Table(title, header, rows, [note])


def pose_table(steps: Sequence[Step], title: str = "With the source also mirrored, and the pose chosen") -> Table:
    """Scores with the better of upright and flip, how often that was chosen rightly, and the oracle's gain."""
    rows: list[list[Cell]] = []
    for step in steps:
        plain, aligned = step.methods["plain"], step.methods.get("aligned", {})
        found = {seed: chosen_poses(plain.get(seed), one) for seed, one in aligned.items()}
        gain, most = ([*_known(found, name).values()] for name in ("gain", "oracle_gain"))
        gains = [_signed(_mean(gain)), _signed(_mean(most))]
        shares = [spread(_known(found, name)) for name in ("right", "same_side", "opposite_sides")]
        scores = [spread(step.scores("aligned", at)) for at in SCORES]
        rows.append([step.label, *scores, *gains, *shares, len(aligned)])
    header = ["row", *NAMES, "gain @0.10", "oracle's gain", "right", "same side", "opposite sides", "seeds"]
    return Table(title, header, [row for row in rows if row[-1]], NOTES)


def _known(found: Mapping[str, Chosen | None], name: str) -> BySeed:
    """One of the cells by seed, where a seed has it."""
    values = {seed: None if one is None else getattr(one, name) for seed, one in found.items()}
    return {seed: value for seed, value in values.items() if value is not None}


def look_table(steps: Sequence[Step]) -> Table:
    """Scores of a second look, and what it gains over the first."""
    rows: list[list[Cell]] = []
    for step in steps:
        looks = step.methods.get("twice", {})
        gains = [_mean(differences(step.scores("twice", at), step.scores("plain", at))) for at in SCORES[:2]]
        ends = image_interval(next(iter(looks.values())), SCORES[0]) if looks else None
        scores = [spread(step.scores("twice", at)) for at in SCORES]
        poses = [one.evaluation["protocol"]["pose"] for one in looks.values()]
        within = next((pose["look"].get("agree") for pose in poses if "look" in pose), None)
        rows.append([step.label, *scores, ends, *map(_signed, gains), within and f"{within:g}", len(looks)])
    header = ["row", *NAMES, "photographs @0.10", "gain @0.10", "gain @0.05", "mean within", "seeds"]
    notes = [
        "both pictures are cropped to where the first look found the subject, without truth of the target",
        "mean within: of both answers, where they are no farther apart than this share of the crop, else the first "
        "counts; without it the second counts alone; chosen on validation photographs",
    ]
    return Table("A second look", header, [row for row in rows if row[-1]], notes)


def few_table(steps: Sequence[Step]) -> Table:
    """Scores over the number of photographs."""
    rows = [[s.label, *(spread(s.scores("plain", at)) for at in SCORES), len(s.methods["plain"])] for s in steps]
    return Table("A few labelled photographs", ["of each species", *NAMES, "seeds"], rows)


def elsewhere_table(away: Mapping[str, list[Step]]) -> Table:
    """Trained without what it is tested on, beside frozen features on the same pairs; and the mean gain."""
    rows: list[list[Cell]] = []
    gains: list[list[float | None]] = []
    for name, steps in away.items():
        if len(steps) < 2:
            continue
        frozen, refined = ([step.scores("plain", at) for at in SCORES] for step in steps)
        change = [_mean(differences(r, f)) for r, f in zip(refined, frozen, strict=True)]
        if name.startswith("leave_"):
            gains.append(change)
        rows.append([ELSEWHERE[name], *_both(frozen, refined), _signed(change[0]), len(steps[1].methods["plain"])])
    if gains:
        means = [_mean([one for one in column if one is not None]) for column in zip(*gains, strict=True)]
        rows.append(["mean gain, a source left out", *map(_signed, means), _signed(means[0]), None])
    return Table("In places and animals it has not seen", ["row", *NAMES, "gain @0.10", "seeds"], rows)


def read_away(folder: Path, prefix: str = "livestock-") -> dict[str, list[Step]]:
    """Frozen features and the trained row on the same pairs, for every row of :data:`ELSEWHERE`."""
    frozen = {name: f"zero-shot, {name.removeprefix('leave_')}" for name in ELSEWHERE}
    return {name: read(folder, {FROZEN + name: frozen[name], name: ELSEWHERE[name]}, prefix) for name in ELSEWHERE}


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _signed(value: float | None) -> Signed | None:
    return None if value is None else Signed(value)


def _both(frozen: Sequence[BySeed], refined: Sequence[BySeed]) -> list[Cell]:
    return [f"{spread(f)} → {spread(r)}" if f and r else None for f, r in zip(frozen, refined, strict=True)]


def about(steps: Sequence[Step], rows: str, command: str) -> str:
    """What a page's numbers are."""
    first = next(one for step in steps for one in step.evaluated).evaluation
    counts = first["counts"]
    return (
        f"PCK in percent per keypoint on LivestockKeypoints ({first['split']}): {counts['pairs']} pairs, "
        f"{counts['keypoints']} keypoints, {counts['geometry_aware']} of them geometry-aware; `lite` features; a "
        "single look and no pose alignment where a table does not say otherwise. Mean ± standard deviation over "
        f"training seeds; frozen features have none. {rows} Photographs: LivestockKeypoints v1.0 (Yiwei Wang et al.), "
        f"CC BY 4.0. Written by `{command}`."
    )


def document(folder: Path) -> str:
    """The page.

    Raises:
        ResultsError: no row is there.
    """
    steps = read(folder, MAIN)
    if not steps:
        raise ResultsError(f"no results below {folder}; run them with: make table-livestock")
    text = about(
        steps, "Every row but the zero-shot ones changes one thing of the refined row.", "make table-livestock"
    )
    ways, few = read(folder, WAYS), read(folder, FEW)
    away = read_away(folder)
    mirrored = pose_table([*chain(*away.values())], "In places and animals it has not seen, the source also mirrored")
    tables = [main_table(steps), pose_table(ways), look_table(ways), few_table(few), elsewhere_table(away), mirrored]
    return page("Real photographs: livestock", text, [table for table in tables if table.rows])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the page, or write it; 2 where there are no results."""
    options = parser("livestock", __doc__).parse_args(arguments)
    return write(options.out, lambda: document(options.folder))


if __name__ == "__main__":
    sys.exit(main())
