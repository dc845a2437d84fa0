"""A run that is killed goes on where it was: checkpoints at intervals and on signals, written whole or not at all."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from geoalign.callbacks.random_state import collect, restore

log = logging.getLogger(__name__)

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
RANDOM = "random_state"
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Interruption(Checkpoint):
    """Keeps ``last.ckpt`` and the one before it in ``folder``; a resumed run equals the undisturbed one.

    Written every ``every`` optimiser steps, at the end of every epoch (after its validation), and on SIGTERM and
    SIGUSR1 after the step in hand; then the process exits with 128 + signal. On SIGUSR1 inside a SLURM job the job
    is requeued. A signal during validation is answered when the epoch ends.

    Args:
        folder: of the checkpoints
        every: optimiser steps; besides the end of every epoch and the signals
    """

    def __init__(self, folder: str | Path, every: int = 50) -> None:
        if every < 1:
            raise ValueError(f"callbacks.interruption.every counts optimiser steps and is at least 1, got {every}")
        self.folder, self.every = Path(folder), every
        self.received: int | None = None
        self._random: list[Mapping[str, Any]] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():  # python allows handlers nowhere else
            for number in SIGNALS:
                signal.signal(number, self._receive)  # lightning puts the former handlers back when the fit ends
        if self._random is not None and len(self._random) == trainer.world_size:
            restore(self._random[trainer.global_rank])
        self._random = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch  # validation comes first; see the epoch's end
        if last or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        stop = self._agreed(trainer)
        if stop or trainer.global_step % self.every == 0:
            self._save(trainer, pl_module)
        if stop:
            self._leave(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, pl_module)
        if self._agreed(trainer):
            self._leave(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        states: list[Any] = [collect()]
        if trainer.world_size > 1:
            states = [None] * trainer.world_size
            torch.distributed.all_gather_object(states, collect())
        checkpoint[RANDOM] = states

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._random = checkpoint.get(RANDOM)  # absent in weights of other origin

    def _receive(self, number: int, _: Any) -> None:
        self.received = number

    def _agreed(self, trainer: Trainer) -> bool:
        """Whether any rank was told to stop: all must leave after the same step."""
        told = self.received is not None
        return told if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(told, all=False)

    def _save(self, trainer: Trainer, module: LightningModule) -> None:
        if not all(bool(p.isfinite().all()) for p in module.parameters() if p.requires_grad):
            return  # the next loss will stop the run; what is on disk is good
        partial = self.folder / f".{LAST}.partial"
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            publish(partial, self.folder)
        for logger in trainer.loggers:
            logger.save()  # what was logged up to here is on disk too: a resumed run logs only what follows
        trainer.strategy.barrier("interruption")

    def _leave(self, trainer: Trainer) -> None:
        number = self.received or signal.SIGTERM
        if trainer.is_global_zero:
            log.warning("%s: saved %s; go on with resume=auto", signal.Signals(number).name, self.folder / LAST)
            if number == signal.SIGUSR1:
                requeue()
        raise SystemExit(128 + number)


def publish(partial: Path, folder: Path) -> None:
    """Make a finished file the last checkpoint and keep the one before; a crash at any point leaves a whole one."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    last = folder / LAST
    if last.exists():
        os.replace(last, folder / PREVIOUS)
    os.replace(partial, last)


def last_good(folder: Path) -> Path | None:
    """The newest checkpoint of a run's folder that can be read; None where there is none."""
    for name in (LAST, PREVIOUS):
        path = folder / "checkpoints" / name
        if not path.is_file():
            continue
        try:
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, OSError, EOFError, ValueError) as error:
            log.warning("%s cannot be read (%s); looking for an older one", path, str(error).splitlines()[0])
            continue
        return path
    return None


def requeue() -> None:
    """Put the SLURM job back into the queue; nothing outside SLURM."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or shutil.which("scontrol") is None:
        return
    done = subprocess.run(["scontrol", "requeue", job], check=False, capture_output=True, text=True)
    if done.returncode:
        log.warning("scontrol requeue %s failed: %s; submit it again by hand", job, done.stderr.strip())
