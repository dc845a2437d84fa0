"""How scores hold when source and target are seen from different sides, per category and for both sets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from geoalign.draw.bars import Draw, grouped_bars, lines
from geoalign.keys import alpha_name
from geoalign.metrics.functional import AZIMUTH_BINS, azimuth_subset
from geoalign.metrics.pck import Score
from geoalign.metrics.robustness import sensitivity
from geoalign.report.analyse.output import place, save, title
from geoalign.report.runs import Evaluated
from geoalign.report.table import Cell, Table
from geoalign.results.predictions import ResultsError

SETS = {"standard": False, "geometry_aware": True}
DEGREES = [45 * d for d in range(AZIMUTH_BINS)]
HEADER = ["run", "method", "dataset", "category", "set", *(f"pck_{d}" for d in DEGREES)]
HEADER += [*(f"keypoints_{d}" for d in DEGREES), "sensitivity"]


class Bins(NamedTuple):
    """Scores in percent and keypoints of one category and set over the azimuth differences."""

    category: str
    subset: str
    scores: list[float | None]
    keypoints: list[int]

    @property
    def sensitivity(self) -> float | None:
        """(max − min) / max over the bins that occur (docs/protocol.md#metrics)."""
        return sensitivity([score for score in self.scores if score is not None])

    @property
    def percent(self) -> float | None:
        """The sensitivity in percent."""
        return None if self.sensitivity is None else 100 * self.sensitivity


def azimuth(chosen: Sequence[Evaluated], alpha: float, average: str, out: Path) -> tuple[Table, list[Path]]:
    """Table of sensitivities, and the csv and picture written into ``out``.

    Raises:
        ResultsError: no evaluation knows an azimuth.
    """
    every = [(one, azimuth_bins(one, alpha, average)) for one in chosen]
    seen = [(one, own) for one, own in every if any(s is not None for b in own for s in b.scores)]
    if not seen:
        raise ResultsError("no pair has a known azimuth; SPair-71k and the synthetic data have them")
    label = f"PCK@{alpha_name(alpha)} per {average}, %"
    plots, titles = [_plots(own, label) for _, own in seen], [title(one) for one, _ in seen]
    rows = [_row(one, b) for one, own in seen for b in own]
    paths = save(out / "azimuth", HEADER, rows, plots, titles, (5.6, 4.0))
    cells: list[list[Cell]] = [
        [f"{one.label} {one.method}", standard.category, standard.percent, aware.percent]
        for one, own in seen
        for standard, aware in zip(own[::2], own[1::2], strict=True)
    ]
    notes = ["(max − min) / max of PCK over the azimuth differences that occur; missing below two of them"]
    if len(seen) < len(every):
        notes.append(f"{len(every) - len(seen)} evaluations without a known azimuth left out")
    header = ["run", "category", "standard", "geometry-aware"]
    return Table(f"Sensitivity to azimuth of {label}", header, cells, notes), paths


def azimuth_bins(one: Evaluated, alpha: float, average: str) -> list[Bins]:
    """Bins of every category, then of all; of each the standard set, then the geometry-aware."""
    bins = []
    for category in (*one.evaluation["categories"], "all"):
        for name, aware in SETS.items():
            subsets = [azimuth_subset(d, geometry_aware=aware) for d in range(AZIMUTH_BINS)]
            scores = [one.score(Score(subset, category, alpha, average)) for subset in subsets]
            bins.append(Bins(category, name, scores, [one.keypoints(subset, category) for subset in subsets]))
    return bins


def _row(one: Evaluated, b: Bins) -> list[Cell]:
    return [*place(one), b.category, b.subset, *b.scores, *b.keypoints, b.sensitivity]


def _plots(bins: Sequence[Bins], label: str) -> list[Draw]:
    """Lines over the azimuth differences for both sets, then their sensitivities as bars."""
    sets = {name.replace("_", "-"): [b for b in bins if b.subset == name] for name in SETS}
    x_label = "azimuth difference, degrees"
    curves: list[Draw] = []
    for name, own in sets.items():
        series, y_label = {b.category: b.scores for b in own}, f"{label} ({name})"
        curves.append(partial(lines, x=DEGREES, series=series, bold="all", x_label=x_label, y_label=y_label))
    names = [b.category for b in sets["standard"]]
    spread = {name: [b.percent for b in own] for name, own in sets.items()}
    return [*curves, partial(grouped_bars, names=names, series=spread, label="sensitivity, %")]
