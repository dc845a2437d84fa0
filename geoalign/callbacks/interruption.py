"""A run that is killed goes on where it was: checkpoints at intervals and on signals, written whole or not at all."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from geoalign.callbacks.checkpoints import LAST, publish
from geoalign.callbacks.random_state import collect, restore

log = logging.getLogger(__name__)

RANDOM = "random_state"
HORIZON = ("total_steps", "_schedule_phases")
"""What a schedule's state says of its whole length."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Interruption(Checkpoint):
    """Keeps ``last.ckpt`` and the one before it in ``folder``; a resumed run equals the undisturbed one.

    Written every ``every`` optimiser steps, at the end of every epoch (after its validation), and on SIGTERM, SIGUSR1
    and SIGINT (Ctrl-C) after the step in hand; then the process exits with 128 + signal. On SIGUSR1 inside a SLURM job
    the job is requeued; on SIGUSR2, where submitit started the job, submitit does it. A signal during validation is
    answered after it; a second SIGINT leaves at once.

    A step's checkpoint is written when the step ends and takes its name when the next one begins: what the loggers
    got from the step is then on disk, so a resumed run's logs have no gap.

    Args:
        folder: of the checkpoints
        every: optimiser steps; besides the end of every epoch and the signals
    """

    def __init__(self, folder: str | Path, every: int = 50) -> None:
        if every < 1:
            raise ValueError(f"callbacks.interruption.every counts optimiser steps and is at least 1, got {every}")
        self.folder, self.every = Path(folder), every
        self.received: int | None = None
        self._queue_again: Callable[[int, Any], Any] | None = None
        self._random: list[Mapping[str, Any]] | None = None
        self._stopping = self._written = self._due = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():  # python allows handlers nowhere else
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell's `command &` asks for SIGINT
                    signal.signal(number, self._receive)  # lightning puts the former handlers back when the fit ends
            if callable(submitits := signal.getsignal(signal.SIGUSR2)):
                self._queue_again = submitits
                signal.signal(signal.SIGUSR2, self._receive)
        if self._random is not None and len(self._random) == trainer.world_size:
            restore(self._random[trainer.global_rank])
        self._random = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._written:
            self._publish(trainer)
            if self._stopping:
                self._leave(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch  # validation comes first; see the epoch's end
        if last or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        self._stopping = self._agreed(trainer)
        if self._stopping or self._due or trainer.global_step % self.every == 0:
            self._written, self._due = self._write(trainer, pl_module), False

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._written:  # of a moment before this validation: a run that goes on from there would leave it out
            self._written, self._due = False, True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._write(trainer, pl_module):
            self._publish(trainer)
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
        for schedule in checkpoint.get("lr_schedulers", []):
            for key in HORIZON:  # a run that is given more epochs follows the schedule of its new length from here
                schedule.pop(key, None)

    def _receive(self, number: int, _: Any) -> None:
        if self.received == number == signal.SIGINT:
            raise SystemExit(128 + number)
        self.received = number
        if number == signal.SIGINT:
            log.warning("SIGINT: saves and stops after this step (a validation ends first); once more stops at once")

    def _agreed(self, trainer: Trainer) -> bool:
        """Whether any rank was told to stop: all must leave after the same step."""
        told = self.received is not None
        return told if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(told, all=False)

    def _partial(self) -> Path:
        return self.folder / f".{LAST}.partial"

    def _write(self, trainer: Trainer, module: LightningModule) -> bool:
        if not all(bool(p.isfinite().all()) for p in module.parameters() if p.requires_grad):
            return False  # the next loss will stop the run; what is on disk is good
        trainer.save_checkpoint(self._partial())
        return True

    def _publish(self, trainer: Trainer) -> None:
        self._written = False
        for logger in trainer.loggers:
            logger.save()  # what was logged up to here is on disk too: a resumed run logs only what follows
        if trainer.is_global_zero:
            publish(self._partial(), self.folder)
        trainer.strategy.barrier("interruption")

    def _leave(self, trainer: Trainer) -> None:
        number = self.received or signal.SIGTERM
        if trainer.is_global_zero:
            log.warning("%s: saved %s; go on with resume=auto", signal.Signals(number).name, self.folder / LAST)
            if number == signal.SIGUSR1:
                requeue()
            if number == signal.SIGUSR2 and self._queue_again is not None:
                self._queue_again(number, None)  # leaves by itself
        raise SystemExit(128 + number)


def requeue() -> None:
    """Put the SLURM job back into the queue; nothing outside SLURM."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or shutil.which("scontrol") is None:
        return
    done = subprocess.run(["scontrol", "requeue", job], check=False, capture_output=True, text=True)
    if done.returncode:
        log.warning("scontrol requeue %s failed: %s; submit it again by hand", job, done.stderr.strip())
