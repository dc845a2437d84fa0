"""Run by torch's launcher on any number of ranks: trains and tests the tiny module, leaves everything in a folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from helpers.tiny import tiny_module, tiny_tail
from lightning import Callback, Trainer

from geoalign.callbacks import PoseAlignment, Results
from geoalign.callbacks.results import Setting
from geoalign.data.batch.samplers import PairSampler
from geoalign.data.batch.views import PixelLoader
from geoalign.data.datamodule import Connection, PairDataModule
from geoalign.data.readers.spair import SPair71k
from geoalign.losses import DenseLoss
from geoalign.matching import Aligned, Matcher, Plain
from geoalign.types import DatasetInfo


class Losses(Callback):
    """The global loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.values.append(float(trainer.strategy.reduce(outputs["loss"], reduce_op="mean")))


def main(root: Path, out: Path, world: int, tail: bool) -> None:
    """A test of all pairs, plain and aligned; then training with four pairs per step whatever the number of ranks."""
    source = SPair71k(root)
    methods = Plain(), Aligned(distance="mutual")
    backbone, refiner = tiny_tail() if tail else (None, None)
    module = tiny_module(backbone, 0.0, methods, refiner, plain=1.0, single=1.0, double=1.0, self=0.25)
    assert module.loss is not None
    # the whole map: a window's place jumps with its peak, and rounding would decide it
    module.loss.terms["dense"] = DenseLoss(Matcher(readout="soft"))
    module.describe({"val": [], "test": [DatasetInfo("mini", source.categories)]})
    batch = 4 // world
    data = PairDataModule(source, None, {"mini": source}, lambda s: PairSampler(s, batch), eval_batch=3)
    losses = Losses()
    data.connect(Connection(PixelLoader((64,)), tuple(module.loss.kinds), module.poses))
    shared: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": world,
        "strategy": "ddp" if world > 1 else "auto",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
    }
    tester = Trainer(callbacks=[PoseAlignment(), Results(out, Setting("ranks", {}))], **shared)
    tester.test(module, data, verbose=False)
    if world != 3:  # three ranks cannot share four pairs
        Trainer(max_epochs=3, callbacks=[losses], **shared).fit(module, data)
    if tester.is_global_zero:
        metrics = {k: float(v) for k, v in tester.callback_metrics.items()}
        (out / "seen.json").write_text(json.dumps({"losses": losses.values, "metrics": metrics}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:] == ["tail"])
