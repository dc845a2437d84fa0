"""How much harder geometry-aware keypoints are, per category (the paper's second figure)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from geoalign.draw.bars import grouped_bars, save_grid
from geoalign.keys import alpha_name
from geoalign.report.analyse.evaluated import Cell, Evaluated, number, write_csv
from geoalign.report.table import Signed, Table
from geoalign.results.predictions import ResultsError

HEADER = (
    "run",
    "method",
    "dataset",
    "category",
    "standard",
    "geometry_aware",
    "gap",
    "keypoints",
    "geometry_aware_keypoints",
)


def geometry_gap(found: Sequence[Evaluated], alpha: float, average: str, out: Path) -> tuple[Table, list[Path]]:
    """Table, and the csv and picture written into ``out``.

    Raises:
        ResultsError: no evaluation has a geometry-aware keypoint.
    """
    rows = [row for one in found for row in gap_rows(one, alpha, average)]
    if all(row[5] is None for row in rows):
        raise ResultsError("no keypoint is geometry-aware; these datasets have no mirror table, or no part seen twice")
    paths = [out / f"geometry-gap.{ending}" for ending in ("csv", "png")]
    write_csv(paths[0], HEADER, rows)
    _draw(found, rows, alpha, average, paths[1])
    lines = [[f"{r[0]} {r[1]}", str(r[3]), r[4], r[5], None if r[6] is None else Signed(r[6])] for r in rows]
    title = f"Standard and geometry-aware PCK@{alpha_name(alpha)} per {average}, %"
    return Table(title, ["run", "category", "standard", "geometry-aware", "gap"], lines), paths


def gap_rows(one: Evaluated, alpha: float, average: str) -> list[list[Cell]]:
    """One row per category and one for all; the gap is standard less geometry-aware."""
    rows: list[list[Cell]] = []
    for category in (*one.evaluation["categories"], "all"):
        standard = one.score(alpha, average, category=category)
        aware = one.score(alpha, average, "geometry_aware", category)
        gap = None if standard is None or aware is None else standard - aware
        counts = [one.keypoints(category=category), one.keypoints("geometry_aware", category)]
        place: list[Cell] = [one.label, one.evaluation["method"], one.evaluation["dataset"], category]
        rows.append([*place, standard, aware, gap, *counts])
    return rows


def _draw(found: Sequence[Evaluated], rows: Sequence[Sequence[Cell]], alpha: float, average: str, path: Path) -> None:
    plots, start = [], 0
    for one in found:
        own = rows[start : start + len(one.evaluation["categories"]) + 1]
        start += len(own)
        names = [f"{row[3]}" for row in own]
        series = {"standard": [number(row[4]) for row in own], "geometry-aware": [number(row[5]) for row in own]}
        plots.append(
            [partial(grouped_bars, names=names, series=series, label=f"PCK@{alpha_name(alpha)} per {average}, %")]
        )
    widest = max(len(one.evaluation["categories"]) for one in found)
    save_grid(plots, [one.title for one in found], path, (max(5.0, 0.5 * widest + 2), 3.6))
