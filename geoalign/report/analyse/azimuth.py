"""How scores hold when source and target are seen from different sides, per category and for both sets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from geoalign.draw.bars import grouped_bars, lines, save_grid
from geoalign.keys import alpha_name
from geoalign.metrics.functional import AZIMUTH_BINS, azimuth_subset
from geoalign.metrics.robustness import sensitivity
from geoalign.report.analyse.evaluated import Cell, Evaluated, write_csv
from geoalign.report.table import Table
from geoalign.results.predictions import ResultsError

SETS = {"standard": False, "geometry_aware": True}
DEGREES = [45 * d for d in range(AZIMUTH_BINS)]


class Bins(NamedTuple):
    """Scores in percent and keypoints of one category and set over the azimuth differences."""

    category: str
    subset: str
    scores: list[float | None]
    keypoints: list[int]

    @property
    def sensitivity(self) -> float | None:
        """(max − min) / max over the bins that occur."""
        return sensitivity([score for score in self.scores if score is not None])


def azimuth(found: Sequence[Evaluated], alpha: float, average: str, out: Path) -> tuple[Table, list[Path]]:
    """Table of sensitivities, and the csv and picture written into ``out``.

    Raises:
        ResultsError: no evaluation knows an azimuth.
    """
    bins = [(one, azimuth_bins(one, alpha, average)) for one in found]
    known = [(one, own) for one, own in bins if any(s is not None for b in own for s in b.scores)]
    if not known:
        raise ResultsError("no pair has a known azimuth; SPair-71k and the synthetic data have them")
    paths = [out / f"azimuth.{ending}" for ending in ("csv", "png")]
    header = ["run", "method", "dataset", "category", "set", *(f"pck_{d}" for d in DEGREES)]
    header += [*(f"keypoints_{d}" for d in DEGREES), "sensitivity"]
    write_csv(paths[0], header, [_row(one, b) for one, own in known for b in own])
    _draw(known, alpha, average, paths[1])
    return _table(known, alpha, average, len(found) - len(known)), paths


def azimuth_bins(one: Evaluated, alpha: float, average: str) -> list[Bins]:
    """Bins of every category, then of all, for both sets."""
    found = []
    for category in (*one.evaluation["categories"], "all"):
        for name, aware in SETS.items():
            subsets = [azimuth_subset(d, geometry_aware=aware) for d in range(AZIMUTH_BINS)]
            scores = [one.score(alpha, average, subset, category) for subset in subsets]
            found.append(Bins(category, name, scores, [one.keypoints(subset, category) for subset in subsets]))
    return found


def _row(one: Evaluated, b: Bins) -> list[Cell]:
    place: list[Cell] = [one.label, one.evaluation["method"], one.evaluation["dataset"], b.category, b.subset]
    return [*place, *b.scores, *b.keypoints, b.sensitivity]


def _table(known: Sequence[tuple[Evaluated, Sequence[Bins]]], alpha: float, average: str, unknown: int) -> Table:
    rows: list[list[Cell]] = []
    for one, own in known:
        for category in dict.fromkeys(b.category for b in own):
            values = [_percent(b.sensitivity) for b in own if b.category == category]
            rows.append([f"{one.label} {one.evaluation['method']}", category, *values])
    notes = ["(max − min) / max of PCK over the azimuth differences that occur; missing below two of them"]
    notes += [f"{unknown} evaluations without a known azimuth left out"] * bool(unknown)
    title = f"Sensitivity to azimuth of PCK@{alpha_name(alpha)} per {average}, %"
    return Table(title, ["run", "category", "standard", "geometry-aware"], rows, notes)


def _draw(known: Sequence[tuple[Evaluated, Sequence[Bins]]], alpha: float, average: str, path: Path) -> None:
    plots = []
    for _, own in known:
        row = []
        for name in SETS:
            series = {b.category: b.scores for b in own if b.subset == name}
            label = f"PCK@{alpha_name(alpha)} per {average}, % ({name.replace('_', '-')})"
            row.append(
                partial(
                    lines, x=DEGREES, series=series, bold="all", x_label="azimuth difference, degrees", y_label=label
                )
            )
        names = list(dict.fromkeys(b.category for b in own))
        spread = {n.replace("_", "-"): [_percent(b.sensitivity) for b in own if b.subset == n] for n in SETS}
        plots.append([*row, partial(grouped_bars, names=names, series=spread, label="sensitivity, %")])
    save_grid(plots, [one.title for one, _ in known], path, (5.6, 4.0))


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
