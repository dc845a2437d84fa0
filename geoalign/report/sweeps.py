"""What a sweep says when it ends: which jobs failed, and how to see the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

FAILED = "FAILED"


class SweepEnd(Callback):
    """Hydra calls this once after all jobs."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        print("\n".join(closing_lines(folder)), flush=True)


def closing_lines(folder: Path) -> list[str]:
    """The number of jobs, every failed one with its reason, and the command that tabulates the others."""
    jobs = sorted((p.parent.parent for p in folder.glob("*/config/overrides.yaml")), key=lambda p: (len(p.name), p))
    failed = [job for job in jobs if (job / FAILED).is_file()]
    lines = [f"{len(jobs)} jobs, {len(failed)} failed"]
    lines += [f"failed: {job}: {(job / FAILED).read_text().strip()}" for job in failed]
    return [*lines, f"table: python -m geoalign.report {folder}"]
