"""Runs on disk, what they scored, and whether their scores may stand in one column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from geoalign.keys import metric_key, pck_key
from geoalign.metrics.pck import Score
from geoalign.report.published import ALIGNED
from geoalign.report.sweeps import failed_jobs, in_order, is_job, job_label
from geoalign.report.table import Span
from geoalign.results.predictions import ResultsError
from geoalign.results.summary import SUMMARY_NAME, Evaluation, Summary, read_summary

SUFFIX = {"plain": "", "aligned": ALIGNED, "twice": " + second look"}
"""What a method of prediction adds to a run's label."""
SHORT = {"img": ("all", "image"), "kp": ("all", "keypoint"), "geo": ("geometry_aware", "keypoint")}
"""Subset and average of the scores that have a short name."""

EVALUATION_FIELDS = ("stage", "split", "dataset_fingerprint")
PROTOCOL_FIELDS = ("image_protocol", "frame_px", "threshold", "comparison")
"""Fields of the protocol that scores in one column share; matcher and pose are the method's own."""


class Evaluated(NamedTuple):
    """One dataset under one method of one run."""

    label: str
    folder: Path
    evaluation: Evaluation

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return self.evaluation["dataset"]

    @property
    def method(self) -> str:
        """``plain`` or ``aligned``."""
        return self.evaluation["method"]

    @property
    def name(self) -> str:
        """The run's label and the method."""
        return self.label + SUFFIX.get(self.method, f" ({self.method})")

    def score(self, at: Score) -> float | None:
        """A PCK in percent, or None where its subset is empty."""
        value = self.evaluation["metrics"].get(self._key(at))
        return None if value is None else 100 * value

    def interval(self, at: Score) -> Span | None:
        """A PCK's interval in percent, or None where it has none."""
        ends = self.evaluation["intervals"].get(self._key(at))
        return None if ends is None else Span(*(100 * end for end in ends))

    def keypoints(self, subset: str = "all", category: str = "all") -> int:
        """How many keypoints a subset holds."""
        place = {"subset": subset, "category": category, "method": self.method}
        key = metric_key(self.evaluation["stage"], self.dataset, "count", "keypoints", **place)
        return int(self.evaluation["metrics"].get(key, 0))

    def _key(self, at: Score) -> str:
        place = {"subset": at.subset, "category": at.category, "method": self.method}
        return pck_key(self.evaluation["stage"], self.dataset, at.alpha, at.average, **place)


class Run(NamedTuple):
    """A run by its label; ``summary`` is None where it is expected but left no result."""

    label: str
    folder: Path | None
    summary: Summary | None

    @property
    def evaluated(self) -> list[Evaluated]:
        """All evaluated datasets and methods."""
        evaluations = [] if self.summary is None else self.summary["evaluations"]
        return [Evaluated(self.label, self.folder or Path(), evaluation) for evaluation in evaluations]


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
        below = [_read(path.parent) for path in folder.rglob(SUMMARY_NAME)]
        below += [Run(f"failed: {job_label(job) or job.name}", job, None) for job in failed_jobs(folder)]
        below.sort(key=lambda run: in_order(run.folder or folder))
        runs += below or [Run(folder.name, folder, None)]
    runs = list({run.folder: run for run in runs}.values())  # overlapping folders name a run twice
    labels = {run.label for run in runs}
    runs += [Run(name, None, None) for name in expected if name not in labels]
    times = Counter(run.label for run in runs)
    return [run._replace(label=f"{run.label} ({run.folder})") if times[run.label] > 1 else run for run in runs]


def protocol_of(evaluation: Evaluation) -> dict[str, Any]:
    """Everything that must agree before two scores may be compared (docs/protocol.md#metrics)."""
    about: Mapping[str, Any] = evaluation
    protocol: Mapping[str, Any] = evaluation["protocol"]
    return {name: about[name] for name in EVALUATION_FIELDS} | {name: protocol[name] for name in PROTOCOL_FIELDS}


def check_one_protocol(column: str, evaluated: Sequence[Evaluated]) -> None:
    """Refuse to put evaluations of different protocols into one column.

    Raises:
        ResultsError: naming the two runs and every field that differs.
    """
    for other in evaluated[1:]:
        want, got = protocol_of(evaluated[0].evaluation), protocol_of(other.evaluation)
        differ = [f"{name} is {want[name]!r} and {got[name]!r}" for name in want if want[name] != got[name]]
        if differ:
            names = f"{evaluated[0].name} and {other.name}"
            raise ResultsError(f"{names} cannot share the column {column}: {'; '.join(differ)}; report them apart")


def _read(folder: Path) -> Run:
    summary, job = read_summary(folder), folder.parent.parent  # <job>/results/<name>
    label = job_label(job) if is_job(job) else ""
    return Run(f"{summary['name']}: {label}" if label else summary["name"], folder, summary)
