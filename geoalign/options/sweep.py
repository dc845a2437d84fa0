"""Jobs of a sweep: one that fails does not end the others, and the end says which did."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

log = logging.getLogger(__name__)
JOB_ERRORS = (ValueError, OSError, ImportError, RuntimeError, ArithmeticError, LookupError, TypeError, AttributeError)
"""What a job of a sweep may end with while the others go on."""


def sweep_job(task: Callable[[DictConfig], Any], cfg: DictConfig, folder: Path) -> Any:
    """One job of a sweep; where it fails, ``folder`` says why, it has no objective and the others go on."""
    (folder / "FAILED").unlink(missing_ok=True)  # of an attempt before
    try:
        check_one_process(cfg)
        return task(cfg)
    except JOB_ERRORS as error:
        line = f"{type(error).__name__}: {' '.join(str(error).split())}"
        (folder / "FAILED").write_text(f"{line} ({' '.join(HydraConfig.get().overrides.task)})\n")
        log.error("this job failed: %s", line, exc_info=bool(OmegaConf.select(cfg, "debug")))
        return None


def check_one_process(cfg: DictConfig) -> None:
    """Refuse jobs of several processes: their launchers would start the whole sweep again on every rank."""
    if str(cfg.trainer.devices) != "1" or int(cfg.trainer.get("num_nodes", 1)) != 1:
        raise ValueError(
            f"a sweep's jobs run in one process each, got trainer.devices={cfg.trainer.devices}; set trainer.devices=1 "
            "and give each job its GPU (+launcher=slurm), or run each setting by itself without -m"
        )


class SweepEnd(Callback):
    """Hydra calls this once after all jobs."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print which jobs failed, and how to tabulate the others."""
        folder = Path(config.hydra.sweep.dir)
        print("\n".join(closing_lines(folder)), flush=True)


def closing_lines(folder: Path) -> list[str]:
    """The number of jobs, every failed one with its reason, and the command that tabulates the others."""
    jobs = sorted((p.parent.parent for p in folder.glob("*/config/overrides.yaml")), key=lambda p: (len(p.name), p))
    failed = [job for job in jobs if (job / "FAILED").is_file()]
    lines = [f"{len(jobs)} jobs, {len(failed)} failed"]
    lines += [f"failed: {job}: {(job / 'FAILED').read_text().strip()}" for job in failed]
    return [*lines, f"table: geoalign report {folder}"]
