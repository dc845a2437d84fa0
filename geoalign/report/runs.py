"""Runs on disk, and whether their scores may stand in one column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from geoalign.report.sweeps import failed_jobs, in_order, is_job, job_label
from geoalign.results.predictions import ResultsError
from geoalign.results.summary import SUMMARY_NAME, Evaluation, Summary, read_summary

EVALUATION_FIELDS = ("stage", "split", "dataset_fingerprint")
PROTOCOL_FIELDS = ("image_protocol", "frame_px", "threshold", "comparison")
"""Fields of the protocol that scores in one column share; matcher and pose are the method's own."""


class Run(NamedTuple):
    """A run by its label; ``summary`` is None where it is expected but left no result."""

    label: str
    folder: Path | None
    summary: Summary | None

    @property
    def evaluations(self) -> Sequence[Evaluation]:
        """All evaluated datasets and methods."""
        return self.summary["evaluations"] if self.summary else ()


def collect(folders: Iterable[str | Path], expected: Sequence[str] = ()) -> list[Run]:
    """Every run at or below the folders, then those of ``expected`` names that are missing.

    Jobs of a sweep are labelled by their own overrides, and failed ones are listed. A folder without any summary is
    itself a missing run.

    Raises:
        ResultsError: a folder does not exist, or a summary is wrong.
    """
    runs = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise ResultsError(f"no folder {folder}; give the folders of runs, or the one that holds them")
        found = [path.parent for path in folder.rglob(SUMMARY_NAME)]
        every = [_read(path) for path in found] + [_failed(path) for path in failed_jobs(folder)]
        every.sort(key=lambda run: in_order(run.folder or folder))
        runs += every or [Run(folder.name, folder, None)]
    runs = list({run.folder: run for run in runs}.values())  # overlapping folders name a run twice
    known = {run.label for run in runs}
    runs += [Run(name, None, None) for name in expected if name not in known]
    times = Counter(run.label for run in runs)
    return [run._replace(label=f"{run.label} ({run.folder})") if times[run.label] > 1 else run for run in runs]


def protocol_of(evaluation: Evaluation) -> dict[str, Any]:
    """Everything that must agree before two scores may be compared."""
    about: Mapping[str, Any] = evaluation
    protocol: Mapping[str, Any] = evaluation["protocol"]
    return {name: about[name] for name in EVALUATION_FIELDS} | {name: protocol[name] for name in PROTOCOL_FIELDS}


def check_one_protocol(column: str, evaluations: Sequence[tuple[str, Evaluation]]) -> None:
    """Refuse to put labelled evaluations of different protocols into one column.

    Raises:
        ResultsError: naming the two runs and every field that differs.
    """
    for label, evaluation in evaluations[1:]:
        first_label, first = evaluations[0]
        want, got = protocol_of(first), protocol_of(evaluation)
        differ = [f"{name} is {want[name]!r} and {got[name]!r}" for name in want if want[name] != got[name]]
        if differ:
            raise ResultsError(
                f"{first_label} and {label} cannot share the column {column}: {'; '.join(differ)}; report them apart"
            )


def _read(folder: Path) -> Run:
    summary, job = read_summary(folder), folder.parent.parent  # <job>/results/<name>
    label = job_label(job) if is_job(job) else ""
    return Run(f"{summary['name']}: {label}" if label else summary["name"], folder, summary)


def _failed(job: Path) -> Run:
    return Run(f"failed: {job_label(job) or job.name}", job, None)
