"""How much harder geometry-aware keypoints are, per category (the second figure of TLR, arXiv 2311.17034)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from geoalign.draw.bars import grouped_bars
from geoalign.keys import alpha_name
from geoalign.metrics.pck import Score
from geoalign.report.analyse.output import place, save, title
from geoalign.report.pck_tables import difference
from geoalign.report.runs import Evaluated
from geoalign.report.table import Signed, Table
from geoalign.results.predictions import ResultsError

HEADER = ["run", "method", "dataset", "category", "standard", "geometry_aware", "gap"]
HEADER += ["keypoints", "geometry_aware_keypoints"]


class Gap(NamedTuple):
    """One category's scores in percent, and how many keypoints each is of."""

    category: str
    standard: float | None
    aware: float | None
    gap: Signed | None  # standard less geometry-aware
    keypoints: int
    aware_keypoints: int


def geometry_gap(chosen: Sequence[Evaluated], alpha: float, average: str, out: Path) -> tuple[Table, list[Path]]:
    """Table, and the csv and picture written into ``out``.

    Raises:
        ResultsError: no evaluation has a geometry-aware keypoint.
    """
    gaps = [gaps_of(one, alpha, average) for one in chosen]
    if all(gap.aware is None for own in gaps for gap in own):
        raise ResultsError("no keypoint is geometry-aware; these datasets have no mirror table, or no part seen twice")
    label, plots = f"PCK@{alpha_name(alpha)} per {average}, %", []
    for own in gaps:
        series = {"standard": [gap.standard for gap in own], "geometry-aware": [gap.aware for gap in own]}
        plots.append([partial(grouped_bars, names=[gap.category for gap in own], series=series, label=label)])
    rows = [[*place(one), *gap] for one, own in zip(chosen, gaps, strict=True) for gap in own]
    size = (max(5.0, 0.5 * (max(map(len, gaps)) - 1) + 2), 3.6)
    paths = save(out / "geometry-gap", HEADER, rows, plots, list(map(title, chosen)), size)
    lines = [[f"{run} {method}", *cells[:4]] for run, method, _, *cells in rows]
    heading = f"Standard and geometry-aware {label}"
    return Table(heading, ["run", "category", "standard", "geometry-aware", "gap"], lines), paths


def gaps_of(one: Evaluated, alpha: float, average: str) -> list[Gap]:
    """One per category, then one for all."""
    gaps = []
    for category in (*one.evaluation["categories"], "all"):
        standard, aware = (one.score(Score(s, category, alpha, average)) for s in ("all", "geometry_aware"))
        counts = [one.keypoints(subset, category) for subset in ("all", "geometry_aware")]
        gaps.append(Gap(category, standard, aware, difference(standard, aware), *counts))
    return gaps
