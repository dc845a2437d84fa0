"""What each technique adds, over seeds: ``python -m geoalign.report.ablation results/synthetic``.

Reads summaries only. Rows are folders as ``benchmarks.run_rows`` leaves them: ``<experiment>/seed-<n>`` for trained
rows, ``<experiment>`` for frozen features.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from geoalign.keys import alpha_name
from geoalign.metrics.pck import Score
from geoalign.report.pages import page, parser, write
from geoalign.report.runs import SHORT, Evaluated, check_one_protocol, collect
from geoalign.report.table import Cell, Table
from geoalign.results.predictions import ResultsError

STEPS = {
    "synthetic-zero_shot": "zero-shot, nearest neighbour",
    "synthetic-sparse": "refined, sparse loss alone",
    "synthetic-dense": "+ dense loss, read by soft-argmax",
    "synthetic-augmentation": "+ pose-variant augmentation",
    "synthetic-noise": "+ label noise",
    "synthetic-dropout": "+ feature dropout",
    "synthetic-window": "+ window soft-argmax",
    "synthetic-continuous": "+ continuous source query",
    "synthetic-cell": "+ cell-exact dense target",
}
"""Folder of each row to its label; a row adds to the one before it."""

METHODS = ("plain", "aligned")
COLUMNS = {place: short for short, place in SHORT.items()}

BySeed = Mapping[str, float]
"""Percent by seed; ``""`` where no seed matters."""


class Step(NamedTuple):
    """One row's evaluations by method and seed."""

    label: str
    methods: Mapping[str, Mapping[str, Evaluated]]

    @property
    def evaluated(self) -> list[Evaluated]:
        """All of them."""
        return [one for seeds in self.methods.values() for one in seeds.values()]

    def scores(self, method: str, at: Score) -> BySeed:
        """The score of every seed that has it."""
        values = {seed: one.score(at) for seed, one in self.methods.get(method, {}).items()}
        return {seed: value for seed, value in values.items() if value is not None}


def read_steps(folder: Path, steps: Mapping[str, str] = STEPS) -> list[Step]:
    """Every row in its order; a row without results has no evaluations.

    Raises:
        ResultsError: nothing there at all, or rows of different protocols.
    """
    rows = []
    for name, label in steps.items():
        methods: dict[str, dict[str, Evaluated]] = {method: {} for method in METHODS}
        for run in collect([folder / name]) if (folder / name).is_dir() else []:
            for one in run.evaluated:
                seed = next((p.name for p in one.folder.parents if p.name.startswith("seed-")), "")
                methods.setdefault(one.method, {})[seed] = one._replace(label=label)
        rows.append(Step(label, methods))
    every = [one for step in rows for one in step.evaluated]
    if not every:
        raise ResultsError(f"no results below {folder}; run them with: make table-synthetic")
    check_one_protocol(str(folder), every)
    return rows


def spread(values: BySeed) -> str | None:
    """Mean and standard deviation over seeds in percent; None where there is no value.

    >>> spread({"seed-1": 60.0, "seed-2": 62.0}), spread({"": 47.4}), spread({})
    ('61.0 ± 1.4', '47.4', None)
    """
    if not values:
        return None
    mean = statistics.fmean(values.values())
    return f"{mean:.1f}" if len(values) == 1 else f"{mean:.1f} ± {statistics.stdev(values.values()):.1f}"


def differences(after: BySeed, before: BySeed) -> list[float]:
    """After less before, seed by seed; a side without seeds stands against every seed of the other."""
    seeds = after if len(after) >= len(before) else before
    pairs = [(after.get(s, after.get("")), before.get(s, before.get(""))) for s in seeds]
    return [a - b for a, b in pairs if a is not None and b is not None]


def judge(change: Sequence[float]) -> str:
    """What the seeds say of a change: its mean, and ``helps`` or ``hurts`` where its 95 % t interval leaves zero out.

    >>> judge([2.0, 2.5, 1.8]), judge([1.0, -1.2, 0.3]), judge([-2.0, -2.5, -1.8]), judge([3.0])
    ('+2.1, helps', '+0.0, unclear', '-2.1, hurts', '+3.0')
    """
    from scipy.stats import t

    mean = statistics.fmean(change)
    if len(change) < 2:
        return f"{mean:+.1f}"
    error = statistics.stdev(change) / len(change) ** 0.5
    if abs(mean) <= t.ppf(0.975, len(change) - 1) * error or not round(mean, 1):
        return f"{mean:+.1f}, unclear"
    return f"{mean:+.1f}, {'helps' if mean > 0 else 'hurts'}"


def score_table(steps: Sequence[Step], method: str, alphas: Sequence[float]) -> Table:
    """Mean and deviation of every row under one method."""
    scores = [Score(subset, "all", alpha, average) for subset, average in COLUMNS for alpha in alphas]
    header = ["row", *(f"{COLUMNS[s.subset, s.average]} @{alpha_name(s.alpha)}" for s in scores), "seeds"]
    rows: list[list[Cell]] = []
    for step in steps:
        cells: list[Cell] = [spread(step.scores(method, at)) for at in scores]
        rows.append([step.label, *cells, len(step.methods[method]) or None])
    return Table("Plain" if method == "plain" else "With flip alignment at test time", header, rows)


def step_table(steps: Sequence[Step], alphas: Sequence[float]) -> Table:
    """What each row changes against the row before it, and alignment against none."""
    scores = [Score("all", "all", alpha, "image") for alpha in alphas]
    scores.append(Score("geometry_aware", "all", alphas[0], "keypoint"))
    rows = [_change(f"{s.label}: + pose alignment", s, "aligned", s, "plain", scores) for s in (steps[0], steps[-1])]
    rows[1:1] = [_change(after.label, after, "plain", before, "plain", scores) for before, after in pairwise(steps)]
    header = ["step", *(f"{COLUMNS[s.subset, s.average]} @{alpha_name(s.alpha)}" for s in scores)]
    note = (
        "difference to the row before, mean over seeds; helps or hurts: its 95 % t interval over seeds leaves out zero"
    )
    return Table("What each step changes", header, rows, [note])


def _change(label: str, after: Step, method: str, before: Step, other: str, scores: Sequence[Score]) -> list[Cell]:
    cells: list[Cell] = [label]
    for at in scores:
        change = differences(after.scores(method, at), before.scores(other, at))
        cells.append(judge(change) if change else None)
    return cells


def document(steps: Sequence[Step], title: str) -> str:
    """The page: what was measured, both tables of scores, what each step changes."""
    first = next(one for step in steps for one in step.evaluated).evaluation
    counts, alphas = first["counts"], first["alphas"]
    about = (
        f"PCK in percent on {first['dataset']} ({first['split']}): {counts['pairs']} pairs, {counts['keypoints']} "
        f"keypoints, {counts['geometry_aware']} of them geometry-aware. img: per image, kp: per keypoint, geo: "
        "geometry-aware keypoints per keypoint. Mean ± standard deviation over training seeds; frozen features do "
        "not depend on a seed. Every row adds to the one before it. Written by `make table-synthetic`."
    )
    tables = [*(score_table(steps, method, alphas) for method in METHODS), step_table(steps, alphas)]
    return page(title, about, tables)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the page, or write it; 2 where there are no results."""
    made = parser("ablation", __doc__)
    made.add_argument("--title", default="The paper's techniques on the synthetic benchmark")
    options = made.parse_args(arguments)
    return write(options.out, lambda: document(read_steps(options.folder), options.title))


if __name__ == "__main__":
    sys.exit(main())
