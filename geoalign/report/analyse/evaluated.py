"""What an analysis reads: evaluations of runs, and the csv and picture it leaves."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from geoalign.files import replacing
from geoalign.keys import metric_key, pck_key
from geoalign.report.runs import collect
from geoalign.results.predictions import ResultsError
from geoalign.results.summary import Evaluation

Cell = str | int | float | None


class Evaluated(NamedTuple):
    """One dataset under one method of one run."""

    label: str
    folder: Path
    evaluation: Evaluation

    @property
    def title(self) -> str:
        """Run, method and dataset."""
        method = "" if self.evaluation["method"] == "plain" else " + pose alignment"
        return f"{self.label}{method} · {self.evaluation['dataset']}"

    def score(self, alpha: float, average: str, subset: str = "all", category: str = "all") -> float | None:
        """A PCK in percent, or None where the subset is empty."""
        place = {"subset": subset, "category": category, "method": self.evaluation["method"]}
        key = pck_key(self.evaluation["stage"], self.evaluation["dataset"], alpha, average, **place)
        value = self.evaluation["metrics"].get(key)
        return None if value is None else 100 * value

    def keypoints(self, subset: str = "all", category: str = "all") -> int:
        """How many keypoints a subset holds."""
        place = {"subset": subset, "category": category, "method": self.evaluation["method"]}
        key = metric_key(self.evaluation["stage"], self.evaluation["dataset"], "count", "keypoints", **place)
        return int(self.evaluation["metrics"].get(key, 0))


def find_evaluations(folders: Iterable[Path], alpha: float, dataset: str | None, method: str | None) -> list[Evaluated]:
    """Every evaluation below the folders, of one dataset or method where these are given.

    Raises:
        ResultsError: none is left, or one was not scored at ``alpha``.
    """
    runs = [run for run in collect(folders) if run.folder is not None]
    everything = [Evaluated(run.label, run.folder, e) for run in runs if run.folder for e in run.evaluations]
    found = [
        e for e in everything if dataset in (None, e.evaluation["dataset"]) and method in (None, e.evaluation["method"])
    ]
    if not found:
        there = sorted({f"{e.evaluation['dataset']}:{e.evaluation['method']}" for e in everything})
        raise ResultsError(
            f"no evaluation of {dataset or 'any dataset'} under method {method or 'any'} below "
            f"{', '.join(map(str, folders))}; there are {there or 'none'}"
        )
    for one in found:
        if alpha not in one.evaluation["alphas"]:
            raise ResultsError(f"{one.folder} is scored at {one.evaluation['alphas']}, not at {alpha}; set --alpha")
    return found


def number(cell: Cell) -> float | None:
    """A cell as a number, or None where it holds none."""
    return float(cell) if isinstance(cell, int | float) else None


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """One line per row; a missing cell is empty; the file appears whole or not at all."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([["" if cell is None else cell for cell in row] for row in rows])
