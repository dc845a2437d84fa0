"""What a training loop costs beside its computation: loading, logging, checkpoints, pictures.

``python -m benchmarks.overhead [OVERRIDES of train.py]`` prints JSON: seconds per step of the computation alone
(forward, loss, backward, optimiser) and of the whole loop, of the same steps; and the share that the dashboard's
pictures and tables take of an epoch. By the wall, and by this process's CPU, which other work on the machine hardly
changes. ``+overhead.steps=20`` steps are timed; the first step and the first pictures, with their imports, apart.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import torch
from lightning import Callback, Trainer
from omegaconf import DictConfig

from geoalign.build import Parts, build, make_group, make_trainer
from geoalign.callbacks.dashboard import Dashboard
from geoalign.callbacks.figures import TrainingFigures

CONF = str(Path(__file__).resolve().parents[1] / "conf")
MEDIA_HOOKS = ("on_validation_batch_end", "on_validation_end")


class Seconds(NamedTuple):
    """By the wall, and of CPU."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Seconds:
        return cls(time.perf_counter(), time.process_time())

    def since(self, start: Seconds, parts: int = 1) -> Seconds:
        return Seconds((self.wall - start.wall) / parts, (self.cpu - start.cpu) / parts)


class Clock(Callback):
    """When every training batch began, how much had been counted by then, and what validation took."""

    def __init__(self, spent: dict[str, list[Seconds]]) -> None:
        self.spent = spent
        self.starts: list[Seconds] = []
        self.marks: list[dict[str, int]] = []
        self.validation: list[Seconds] = []
        self.media: list[int] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.starts.append(Seconds.now())
        self.marks.append({name: len(self.spent[name]) for name in ("compute", "log")})

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.validation.append(Seconds.now())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.validation.append(Seconds.now())
        self.media.append(len(self.spent["media"]))


def timed(owner: Any, names: Sequence[str], spent: list[Seconds]) -> None:
    """Count what calls of an object's methods take."""
    for name in names:
        method: Callable[..., Any] = getattr(owner, name)

        def counted(*arguments: Any, method: Callable[..., Any] = method, **named: Any) -> Any:
            start = Seconds.now()
            result = method(*arguments, **named)
            spent.append(Seconds.now().since(start))
            return result

        setattr(owner, name, counted)


def loop(cfg: DictConfig, parts: Parts, steps: int) -> tuple[Clock, dict[str, list[Seconds]]]:
    """Two epochs of the configured loop; its clock, and what computing, logging and media took."""
    spent: dict[str, list[Seconds]] = {"compute": [], "log": [], "media": []}
    timed(parts.module, ["optimizer_step"], spent["compute"])  # forward, loss, backward and update, with what they log
    timed(parts.module, ["log"], spent["log"])
    callbacks = make_group(cfg.callbacks)
    for callback in callbacks:
        if isinstance(callback, (Dashboard, TrainingFigures)):
            timed(callback, MEDIA_HOOKS, spent["media"])
    clock = Clock(spent)
    alignment = [parts.alignment] if parts.alignment is not None else []
    logger = make_group(cfg.logger) or False
    trainer = make_trainer(cfg, [*callbacks, *alignment, clock], logger, max_epochs=2, limit_train_batches=steps)
    trainer.fit(parts.module, datamodule=parts.datamodule)
    return clock, spent


def summary(clock: Clock, spent: dict[str, list[Seconds]], epoch: int, steps: int, by: str) -> dict[str, float]:
    """Per step of the first epoch but its first; per validation, the second one, and per epoch of so many steps."""
    first, last, count = clock.marks[1], clock.marks[steps - 1], steps - 2
    took = {name: sum(getattr(s, by) for s in spent[name][first[name] : last[name]]) / count for name in first}
    step = getattr(clock.starts[steps - 1].since(clock.starts[1]), by) / count
    compute = took["compute"] - took["log"]
    validation = getattr(clock.validation[3].since(clock.validation[2]), by)
    media = [getattr(s, by) for s in spent["media"]]
    return {
        "compute_step_s": compute,
        "loop_step_s": step,
        "loop_over_compute": step / compute - 1,
        "validation_s": validation,
        "first_media_s": sum(media[: clock.media[0]]),
        "media_s": sum(media[clock.media[0] :]),
        "media_of_epoch": sum(media[clock.media[0] :]) / (epoch * step + validation),
    }


@hydra.main(version_base="1.3", config_path=CONF, config_name="train")
def main(cfg: DictConfig) -> None:
    """Time two epochs of so many steps and print."""
    steps = int(cfg.get("overhead", {}).get("steps", 20))  # per epoch
    parts = build(cfg, ["train", "val"])
    epoch = len(parts.datamodule.sampler or ())
    clock, spent = loop(cfg, parts, steps)
    seconds = {by: summary(clock, spent, epoch, steps, by) for by in Seconds._fields}
    print(json.dumps({"threads": torch.get_num_threads(), "steps": steps, "epoch_steps": epoch, **seconds}, indent=2))


if __name__ == "__main__":
    main()
