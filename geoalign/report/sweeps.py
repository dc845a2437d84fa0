"""Jobs of sweeps on disk: what sets each apart from its neighbours, and which failed."""

from __future__ import annotations

from pathlib import Path

from geoalign.files import read_text, read_yaml

FAILED = "FAILED"
"""The file in which a failed job says why."""


def is_job(folder: Path) -> bool:
    """Whether a run's folder is one job of a sweep (``-m``)."""
    hydra = folder / "config" / "hydra.yaml"
    return hydra.is_file() and "mode: MULTIRUN" in read_text(hydra)


def failed_jobs(folder: Path) -> list[Path]:
    """Every failed job at or below a folder."""
    return [path.parent for path in folder.rglob(FAILED) if is_job(path.parent)]


def job_label(job: Path) -> str:
    """The overrides in which a job differs from the others of its sweep; empty where none does."""
    others = [_overrides(path.parents[1]) for path in job.parent.glob("*/config/overrides.yaml")]
    shared = set.intersection(*map(set, others)) if others else set()
    return " ".join(item for item in _overrides(job) if item not in shared)


def in_order(path: Path) -> list[tuple[int, int, str]]:
    """A key that sorts folders as people count: 2 before 10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in path.parts]


def _overrides(job: Path) -> list[str]:
    return [str(item) for item in read_yaml(job / "config" / "overrides.yaml") or []]
