"""A script's task as a job: its folder, and what was wrong in one line."""

from __future__ import annotations

import functools
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from geoalign import claim
from geoalign.console import LOG, say
from geoalign.options.sweep import sweep_job

CONFIG = "config"
"""Where a run's folder has its composed configs."""
START = ".start-"
"""Begins the name of where a start has them that may be refused."""


def output_dir() -> Path:
    """The run's folder."""
    return Path(HydraConfig.get().runtime.output_dir)


def keep_config() -> None:
    """Make this start's configs those of the run: called once it is sure that the folder's run is this one."""
    if not (_start().name.startswith(START) and _start().is_dir()):  # the user's choice, or another rank's affair
        return
    (output_dir() / CONFIG).mkdir(exist_ok=True)
    for path in _start().iterdir():
        os.replace(path, output_dir() / CONFIG / path.name)


def discard_run() -> None:
    """Remove the run's folder if it holds only what every run begins with; a folder may also be the user's own."""
    folder = output_dir()
    own = (CONFIG, "csv", claim.NAME)
    if all(path.name in own or path.suffix == ".log" or path == _start() for path in folder.glob("*")):
        logging.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def one_line_errors(task: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Users see what was wrong in one line and exit code 1; a run that never started leaves no folder."""

    @functools.wraps(task)
    def wrapped(cfg: DictConfig) -> Any:
        sweeping = HydraConfig.get().mode == RunMode.MULTIRUN
        try:
            with claim.claimed(output_dir(), *_again(cfg)), _interruptible():
                if not (output_dir() / CONFIG).exists():
                    keep_config()
                return sweep_job(task, cfg, output_dir()) if sweeping else task(cfg)
        except claim.ClaimError as error:  # before this run changed anything there
            print(f"error: {error}", file=sys.stderr)
            return None if sweeping else sys.exit(1)
        except (ValueError, OSError, ImportError) as error:
            say(f"error: {' '.join(str(error).split())}", error=True)
            discard_run()
            if OmegaConf.select(cfg, "debug"):
                raise
            sys.exit(1)
        except Exception:
            LOG.exception("stopped")  # python prints it
            raise
        finally:
            if _start().name.startswith(START):  # else the user's choice
                shutil.rmtree(_start(), ignore_errors=True)

    return wrapped


def _again(cfg: DictConfig) -> tuple[bool, str]:
    """Whether a finished run's folder may be used again, and how to say so."""
    other = "overwrite=true starts over, hydra.run.dir=<folder> takes another"
    if "resume" not in cfg:
        return cfg.get("overwrite", True), other
    return cfg.overwrite or cfg.resume is not None, f"resume=auto goes on with it, {other}"


def _start() -> Path:
    """Where hydra wrote the configs of this start."""
    return output_dir() / str(HydraConfig.get().output_subdir)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends a script in one line; training, which saves first, has its own way."""
    before, process = signal.getsignal(signal.SIGINT), os.getpid()

    def leave(number: int, _: Any) -> None:
        if os.getpid() == process:  # not a worker of a loader
            say("SIGINT: stopped", error=True)
        raise SystemExit(128 + number)

    own = before is not signal.SIG_IGN and threading.current_thread() is threading.main_thread()
    if own:
        signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        if own:
            signal.signal(signal.SIGINT, before)
