"""Trains the tiny module in child processes that die at given moments, and goes on until the run is done.

Run as a script: imports once, then forks a child per attempt. Its one argument is a list of jobs in JSON, each with
``data`` and ``out`` (folders), ``moments`` (``[hook, step]``, in order of time) and ``options``. At its moment a child
notes what it was doing in ``out/deaths.jsonl`` and kills itself with SIGKILL (or the signal named in the hook); the
next one goes on as ``resume=auto`` does. Prints how the attempts of every job ended.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
from helpers.tiny import TinyBackbone, tiny_module, tiny_tail
from lightning import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from geoalign.callbacks import Interruption, checkpoints, csv_log
from geoalign.callbacks.averaging import AverageWeights
from geoalign.callbacks.random_state import collect
from geoalign.data.batch.samplers import CliqueSampler
from geoalign.data.batch.views import PixelLoader
from geoalign.data.datamodule import Connection, PairDataModule
from geoalign.data.readers.spair import SPair71k
from geoalign.module import CorrespondenceModule
from geoalign.types import DatasetInfo

EPOCHS, BATCHES, EVERY = 3, 5, 2
STEPS = EPOCHS * BATCHES
SAVES = sorted({*range(EVERY, STEPS, EVERY), *range(BATCHES, STEPS + 1, BATCHES)})
"""Steps after which a checkpoint is written (without accumulation)."""
HOOKS = ("validation", "write", "replace", "start", "gradients")
"""Where a child may die, in the order in which they come at one value of ``global_step``."""


def all_moments() -> list[tuple[str, int]]:
    """Every ``(hook, step)`` that a run without accumulation comes by, in order of time."""
    ends = range(BATCHES, STEPS + 1, BATCHES)
    steps = {"validation": ends, "write": SAVES, "replace": SAVES[1:], "start": range(STEPS), "gradients": range(STEPS)}
    found = [(hook, step) for hook in HOOKS for step in steps[hook]]
    return sorted(found, key=lambda moment: (moment[1], HOOKS.index(moment[0])))


class Death(Callback):
    """Ends the process at one moment of the fit, after noting where it was."""

    def __init__(self, hook: str, step: int, out: Path) -> None:
        self.hook, self.step, self.out = hook, step, out

    def strike(self, trainer: Trainer, hook: str, number: int = signal.SIGKILL) -> None:
        if self.hook != hook or trainer.global_step != self.step:
            return
        note = {"hook": hook, "step": trainer.global_step, "fitting": trainer.state.fn == "fit"}
        with (self.out / "deaths.jsonl").open("a") as file:
            file.write(json.dumps(note | {"finished": (self.out / "final.pt").exists()}) + "\n")
        if number == signal.SIGKILL:
            os.kill(os.getpid(), number)
        else:
            os.killpg(0, number)  # to a loader's workers too, as a terminal and SLURM do

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.strike(trainer, "start")
        for name in ("SIGTERM", "SIGUSR1", "SIGINT"):
            self.strike(trainer, name, getattr(signal, name))

    def on_before_optimizer_step(self, trainer: Trainer, *_: Any) -> None:
        self.strike(trainer, "gradients")

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.strike(trainer, "validation")

    def on_save_checkpoint(self, trainer: Trainer, *_: Any) -> None:
        if self.hook == "write" and trainer.global_step == self.step:  # the file is there in part
            (self.out / "checkpoints" / f".{checkpoints.LAST}.partial").write_bytes(b"PK")
        self.strike(trainer, "write")
        if self.hook == "replace" and trainer.global_step == self.step:  # the old one has moved away, no new one yet
            real = os.replace

            def half(source: Any, target: Any) -> None:
                real(source, target)
                if Path(target).name == checkpoints.PREVIOUS:
                    self.strike(trainer, "replace")

            os.replace = half
        if self.hook == "published" and trainer.global_step == self.step:  # it has its name, no step began since
            rename = os.replace

            def named(source: Any, target: Any) -> None:
                rename(source, target)
                if Path(target).name == checkpoints.LAST:
                    self.strike(trainer, "published")

            os.replace = named


def parts(root: Path, workers: int, tail: bool = False) -> tuple[CorrespondenceModule, PairDataModule]:
    """Module with a schedule and dropout, data drawn as cliques."""
    source = SPair71k(root)
    backbone, refiner = tiny_tail(dropout=0.3) if tail else (TinyBackbone(), None)
    module = tiny_module(backbone, dropout=0.3, refiner=refiner, plain=1.0, self=0.25)
    module.make_scheduler = lambda optimizer, total_steps: torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1e-3, total_steps=total_steps
    )
    module.describe({"val": [DatasetInfo("mini", source.categories)], "test": []})
    draw = lambda s: CliqueSampler(s, size=2, batches=BATCHES)  # noqa: E731
    data = PairDataModule(source, {"mini": source}, sampler=draw, eval_batch=3, workers=workers)
    data.connect(Connection(PixelLoader((64,)), tuple(module.loss.kinds)))
    return module, data


def fit(root: Path, out: Path, moment: tuple[str, int] | None, options: dict[str, Any]) -> None:
    """One attempt: as ``resume=auto`` does; leaves everything that must be equal in ``final.pt``."""
    seed_everything(1, verbose=False)
    module, data = parts(root, options.pop("workers", 0), options.pop("tail", False))
    callbacks: list[Callback] = [Death(*moment, out)] if moment else []
    average = AverageWeights(decay=0.9) if options.pop("average", False) else None
    callbacks += [average] if average is not None else []
    best = ModelCheckpoint(
        out / "checkpoints", "best", "val/mini/pck@0.10/image", mode="max", enable_version_counter=False
    )
    callbacks += [best, Interruption(out / "checkpoints", every=EVERY)]
    resume = checkpoints.last_good(out)
    csv_log.cut(out, checkpoints.read_checkpoint(resume)["global_step"] if resume else 0)
    trainer = Trainer(
        accelerator="cpu", max_epochs=EPOCHS, default_root_dir=out, callbacks=callbacks, num_sanity_val_steps=0,
        logger=csv_log.CsvLog(str(out)), log_every_n_steps=1,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        **options,
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    last = torch.load(checkpoints.last_good(out), weights_only=True)
    state = {
        "weights": module.refiner.state_dict(),
        "current": last.get("current_model_state", last["state_dict"]),  # not averaged
        "average": last.get("averaging_state", {}),
        "optimizer": trainer.optimizers[0].state_dict(),
        "scheduler": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
        "best": float(best.best_model_score),
        "random": collect(),
        "steps": trainer.global_step,
    }
    torch.save(state, out / "final.pt")


def attempt(*arguments: Any) -> int:
    """Fork, train, and say how the child ended (minus the signal, or its exit code)."""
    child = os.fork()
    if child == 0:
        code = 99
        os.setpgrp()
        try:
            fit(*arguments)
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def job(data: str, out: str, moments: list[tuple[str, int]], options: dict[str, Any]) -> list[int]:
    """Attempts until one is left alone; how each ended."""
    Path(out, "checkpoints").mkdir(parents=True)
    return [attempt(Path(data), Path(out), moment, dict(options)) for moment in [*moments, None]]


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps([job(**given) for given in json.loads(sys.argv[1])]))
