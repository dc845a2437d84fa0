"""How far a run is: a bar where somebody watches, lines in a log."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Any

import lightning.pytorch.callbacks as bars
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

from geoalign.console import say
from geoalign.keys import loss_key


def progress(refresh_rate: int = 1, seconds: float = 30.0) -> ProgressBar:
    """A progress bar in a terminal; elsewhere a line from time to time.

    Args:
        refresh_rate: steps between two states of the bar
        seconds: between two lines, where there is no terminal
    """
    if seconds <= 0:
        raise ValueError(f"callbacks.progress.seconds is the time between two lines and above 0, got {seconds}")
    return bars.RichProgressBar(refresh_rate=refresh_rate) if sys.stdout.isatty() else ProgressLines(seconds)


class ProgressLines(ProgressBar):
    """``step 120 of 480, loss 1.23, 3.1 it/s, 0:01:56 left``, every so many seconds, of rank 0.

    Steps are batches; the rate is that since the line before, so a validation in between slows it down.

    Args:
        seconds: between two lines
    """

    def __init__(self, seconds: float = 30.0) -> None:
        super().__init__()
        self.seconds, self.on = seconds, True
        self._at, self._since, self._what = 0, time.monotonic(), ""

    def disable(self) -> None:
        """Lightning calls this on every rank but the first."""
        self.on = False

    def enable(self) -> None:
        """The opposite."""
        self.on = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run that goes on counts from where it was."""
        self._begin("step", trainer.fit_loop.epoch_loop.total_batch_idx + 1)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The only place where the loss is read, which a GPU would have to be waited for."""
        done = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        epochs, steps = trainer.max_epochs, trainer.max_steps
        total = float("inf") if epochs in (None, -1) else self.total_train_batches * float(epochs)
        total = total if steps == -1 else min(total, steps * trainer.accumulate_grad_batches)
        if self._due("step", done):
            loss = trainer.callback_metrics.get(loss_key("train", "total"), outputs["loss"] if outputs else None)
            self._say("step", done, total, "" if loss is None else f", loss {float(loss):.3g}")

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """As all passes without a loss."""
        self._pass(
            "validation", trainer.fit_loop.epoch_loop.val_loop if trainer.state.fn == "fit" else trainer.validate_loop
        )

    def on_test_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """As all passes without a loss."""
        self._pass("test", trainer.test_loop)

    def on_predict_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """The passes that fill the store."""
        done = trainer.predict_loop.batch_progress.total.completed + 1
        if self._due("features", done):
            self._say("features", done, sum(trainer.predict_loop.max_batches))

    def _pass(self, what: str, loop: Any) -> None:
        done = loop.batch_progress.total.completed + 1
        if self._due(what, done):
            self._say(what, loop.batch_progress.current.completed + 1, sum(loop.max_batches), at=done)

    def _begin(self, what: str, done: int) -> None:
        self._what, self._at, self._since = what, done, time.monotonic()

    def _due(self, what: str, done: int) -> bool:
        if what != self._what:
            self._begin(what, done - 1)
        return self.on and time.monotonic() - self._since >= self.seconds

    def _say(self, what: str, done: int, total: float, more: str = "", at: int | None = None) -> None:
        now, counted = time.monotonic(), done if at is None else at
        rate = (counted - self._at) / (now - self._since)
        known = total not in (0, float("inf"))
        left = f", {timedelta(seconds=round((total - done) / rate))} left" if known and rate > 0 else ""
        say(f"{what} {done}{f' of {total:.0f}' if known else ''}{more}, {rate:.2g} it/s{left}")
        self._at, self._since = counted, now
