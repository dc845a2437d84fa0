"""A script's task as a job: its folder, and what was wrong in one line."""

from __future__ import annotations

import functools
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from geoalign.options.sweep import sweep_job


def output_dir() -> Path:
    """The run's folder."""
    return Path(HydraConfig.get().runtime.output_dir)


def discard_run() -> None:
    """Remove the run's folder if it holds only what every run begins with; a folder may also be the user's own."""
    folder = output_dir()
    if all(path.name in ("config", "csv") or path.suffix == ".log" for path in folder.glob("*")):
        logging.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def one_line_errors(task: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Users see what was wrong in one line and exit code 1; a run that never started leaves no folder."""

    @functools.wraps(task)
    def wrapped(cfg: DictConfig) -> Any:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return sweep_job(task, cfg, output_dir())
        try:
            return task(cfg)
        except (ValueError, OSError, ImportError) as error:
            discard_run()
            if OmegaConf.select(cfg, "debug"):
                raise
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            sys.exit(1)

    return wrapped
