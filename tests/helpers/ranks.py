"""Trains and tests the tiny module on one, two and three ranks, and leaves everything in a folder each.

Run as a script: imports once, then forks the ranks of one world after the other, with what torch's launcher would tell
them. Its arguments are the data, the folder of the folders, and ``deeper`` for what trains deeper or finer.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from helpers.tiny import DEEPER, tiny_deeper, tiny_module
from lightning import Callback, Trainer

from geoalign.callbacks import PoseAlignment, Results
from geoalign.callbacks.results import Setting
from geoalign.data.batch.samplers import PairSampler
from geoalign.data.batch.views import PixelLoader
from geoalign.data.datamodule import Connection, PairDataModule
from geoalign.data.readers.spair import SPair71k
from geoalign.losses import DenseLoss
from geoalign.matching import Aligned, Matcher, Plain
from geoalign.module import CorrespondenceModule
from geoalign.types import DatasetInfo


class Losses(Callback):
    """The global loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.values.append(float(trainer.strategy.reduce(outputs["loss"], reduce_op="mean")))


def main(root: Path, out: Path, world: int, deeper: bool) -> None:
    """What each part saw; the tiny module's evaluation also leaves its results in ``out``."""
    seen = {part: run(root, world, tiny_deeper(part)) for part in DEEPER} if deeper else usual(root, out, world)
    if int(os.environ["RANK"]) == 0:
        out.mkdir(parents=True, exist_ok=True)
        (out / "seen.json").write_text(json.dumps(seen))


def usual(root: Path, out: Path, world: int) -> dict[str, Any]:
    """The paper's parts on all kinds of row, evaluated plain and aligned."""
    module = tiny_module(None, 0.0, (Plain(), Aligned(distance="mutual")), plain=1.0, single=1.0, double=1.0, self=0.25)
    assert module.loss is not None
    # the whole map: a window's place jumps with its peak, and rounding would decide it
    module.loss.terms["dense"] = DenseLoss(Matcher(readout="soft"))
    return run(root, world, module, [PoseAlignment(), Results(out, Setting("ranks", {}))], epochs=3)


def run(
    root: Path, world: int, module: CorrespondenceModule, callbacks: Sequence[Callback] = (), epochs: int = 2
) -> dict[str, Any]:
    """A test of all pairs, then training with four pairs per step whatever the number of ranks."""
    source = SPair71k(root)
    module.describe({"val": [], "test": [DatasetInfo("mini", source.categories)]})
    assert module.loss is not None
    batch = 4 // world
    data = PairDataModule(source, None, {"mini": source}, lambda s: PairSampler(s, batch), eval_batch=3)
    losses, kinds, masks = Losses(), tuple(module.loss.kinds), module.loss.mask_side
    data.connect(Connection(PixelLoader((64,)), kinds, module.poses, train_mask_side=masks))
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
    tester = Trainer(callbacks=list(callbacks), **shared)
    tester.test(module, data, verbose=False)
    if world != 3:  # three ranks cannot share four pairs
        Trainer(max_epochs=epochs, callbacks=[losses], **shared).fit(module, data)
    return {"losses": losses.values, "metrics": {k: float(v) for k, v in tester.callback_metrics.items()}}


def rank(number: int, world: int, port: int, *arguments: Any) -> int:
    """Fork one rank; its process."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        told = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
        os.environ.update({key: str(value) for key, value in told.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), TORCHELASTIC_RUN_ID="ranks")
        main(*arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    for world in (1, 2, 3):
        port, out = free_port(), Path(sys.argv[2], str(world))
        ranks = [
            rank(number, world, port, Path(sys.argv[1]), out, world, sys.argv[3:] == ["deeper"])
            for number in range(world)
        ]
        ends = [os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in ranks]
        if any(ends):
            sys.exit(f"{world} ranks ended with {ends}")
