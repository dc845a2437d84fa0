"""What an analysis reads, and the csv and picture that each leaves beside its table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from geoalign.draw.bars import Draw, save_grid
from geoalign.files import replacing
from geoalign.report.runs import Evaluated, collect
from geoalign.report.table import Cell, csv_text
from geoalign.results.predictions import ResultsError


def find_evaluations(folders: Iterable[Path], alpha: float, dataset: str | None, method: str | None) -> list[Evaluated]:
    """Every evaluation below the folders, of one dataset or method where these are given.

    Raises:
        ResultsError: none is left, or one was not scored at ``alpha``.
    """
    every = [one for run in collect(folders) for one in run.evaluated]
    chosen = [one for one in every if dataset in (None, one.dataset) and method in (None, one.method)]
    if not chosen:
        there = sorted({f"{one.dataset}:{one.method}" for one in every})
        raise ResultsError(
            f"no evaluation of {dataset or 'any dataset'} under method {method or 'any'} below "
            f"{', '.join(map(str, folders))}; there are {there or 'none'}"
        )
    for one in chosen:
        if alpha not in one.evaluation["alphas"]:
            raise ResultsError(f"{one.folder} is scored at {one.evaluation['alphas']}, not at {alpha}; set --alpha")
    return chosen


def save(
    out: Path,
    header: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    plots: Sequence[Sequence[Draw]],
    titles: Sequence[str],
    size: tuple[float, float],
) -> list[Path]:
    """Write ``out.csv`` and ``out.png``, a row of plots of ``size`` inches per title; both paths."""
    paths = [out.with_suffix(ending) for ending in (".csv", ".png")]
    with replacing(paths[0]) as partial:
        partial.write_text(csv_text(header, rows), encoding="utf-8")
    save_grid(plots, titles, paths[1], size)
    return paths


def title(one: Evaluated) -> str:
    """Run, method and dataset, above a plot."""
    return f"{one.name} · {one.dataset}"


def place(one: Evaluated) -> list[Cell]:
    """Run, method and dataset, the first columns of every csv."""
    return [one.label, one.method, one.dataset]
