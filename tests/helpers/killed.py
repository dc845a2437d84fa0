"""Trains the tiny module in child processes that die at given moments, and goes on until the run is done.

Run as a script: imports once, then forks a child per attempt. ``moments`` is a list of ``[hook, step]``; the child
kills itself with SIGKILL (or the signal named in the hook) when its run reaches them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from helpers.tiny import TinyBackbone, tiny_module
from lightning import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

from geoalign.callbacks import Interruption, interruption
from geoalign.data.datamodule import Connection, PairDataModule
from geoalign.data.samplers import CliqueSampler
from geoalign.data.spair import SPair71k
from geoalign.data.views import PixelLoader
from geoalign.module import DatasetInfo


class Death(Callback):
    """Ends the process at one moment of the fit."""

    def __init__(self, hook: str, step: int) -> None:
        self.hook, self.step = hook, step

    def strike(self, trainer: Trainer, hook: str) -> None:
        if self.hook == hook and trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.strike(trainer, "start")
        if self.hook in ("SIGTERM", "SIGUSR1") and trainer.global_step == self.step:
            os.kill(os.getpid(), getattr(signal, self.hook))

    def on_before_optimizer_step(self, trainer: Trainer, *_: Any) -> None:
        self.strike(trainer, "gradients")

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.strike(trainer, "validation")

    def on_save_checkpoint(self, trainer: Trainer, *_: Any) -> None:
        if self.hook == "write" and trainer.global_step == self.step:  # the file is there in part
            (
                trainer.default_root_dir and Path(trainer.default_root_dir, "checkpoints", ".last.ckpt.partial")
            ).write_bytes(b"PK")
            os.kill(os.getpid(), signal.SIGKILL)
        if self.hook == "replace" and trainer.global_step == self.step:  # the old one has moved away, no new one yet
            real = os.replace

            def half(source: Any, target: Any) -> None:
                real(source, target)
                if Path(target).name == interruption.PREVIOUS:
                    os.kill(os.getpid(), signal.SIGKILL)

            os.replace = half


def fit(root: Path, out: Path, moment: tuple[str, int] | None, options: dict[str, Any]) -> None:
    """One attempt: as ``resume=auto`` does."""
    seed_everything(1, verbose=False)
    source = SPair71k(root, index_cache=False)
    module = tiny_module(TinyBackbone(), dropout=0.3, plain=1.0, self=0.25)
    module.make_scheduler = lambda optimizer, total_steps: torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1e-3, total_steps=total_steps
    )
    module.describe({"val": [DatasetInfo("mini", source.categories)], "test": []})
    data = PairDataModule(
        source,
        {"mini": source},
        sampler=lambda s: CliqueSampler(s, size=2, batches=5),
        eval_batch=3,
        workers=options.pop("workers", 0),
    )
    data.connect(Connection(PixelLoader((64,)), tuple(module.loss.kinds)))
    callbacks: list[Callback] = [Death(*moment)] if moment else []
    if options.pop("average", False):
        callbacks.append(EMAWeightAveraging(decay=0.9))
    best = ModelCheckpoint(
        out / "checkpoints", "best", "val/mini/pck@0.10/image", mode="max", enable_version_counter=False
    )
    callbacks += [best, Interruption(out / "checkpoints", every=2)]
    trainer = Trainer(
        accelerator="cpu", max_epochs=3, default_root_dir=out, logger=False, callbacks=callbacks,
        num_sanity_val_steps=0, enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        **options,
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=interruption.last_good(out), weights_only=True)
    state = {"weights": module.refiner.state_dict(), "optimizer": trainer.optimizers[0].state_dict()}
    state["scheduler"] = trainer.lr_scheduler_configs[0].scheduler.state_dict()
    state["best"] = float(best.best_model_score)
    torch.save(state, out / "final.pt")


def attempt(*arguments: Any) -> int:
    """Fork, train, and say how the child ended (minus the signal, or its exit code)."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            fit(*arguments)
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    where, target, moments, chosen = (
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        json.loads(sys.argv[3]),
        json.loads(sys.argv[4]),
    )
    print(json.dumps([attempt(where, target, moment, dict(chosen)) for moment in [*moments, None]]))
