"""How fast, at what rate and how well: beside the losses in every logger, and a line per validation in the log."""

from __future__ import annotations

import sys
import time
from itertools import product
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from geoalign.console import LOG, say
from geoalign.keys import pck_key, telemetry_key
from geoalign.module import CorrespondenceModule
from geoalign.types import PairBatch


class Telemetry(Callback):
    """Logs ``train/lr``, ``train/rows_per_s`` (this rank, loading included) and ``train/gpu_peak_gib``.

    The scores of every validation stand in the run's log, and on the console where no progress bar can show them.
    """

    def __init__(self) -> None:
        self._since, self._rows = time.perf_counter(), 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since, self._rows = time.perf_counter(), 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: PairBatch, batch_idx: int
    ) -> None:
        self._rows += len(batch["src"])
        if (batch_idx + 1) % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        now = time.perf_counter()
        rate = self._rows / (now - self._since)
        self._since, self._rows = now, 0
        values = {"lr": trainer.optimizers[0].param_groups[0]["lr"], "rows_per_s": rate}
        if pl_module.device.type == "cuda":
            values["gpu_peak_gib"] = torch.cuda.max_memory_allocated(pl_module.device) / 2**30
        pl_module.log_dict({telemetry_key("train", k): v for k, v in values.items()}, batch_size=1)

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: CorrespondenceModule) -> None:  # type: ignore[override]
        if trainer.sanity_checking:
            return
        names = [info.name for info in pl_module.datasets["val"]]
        keys = [
            pck_key("val", name, alpha, "image", method=method.name)
            for name, method, alpha in product(names, pl_module.methods, pl_module.alphas)
        ]
        metrics = trainer.callback_metrics
        scores = ", ".join(f"{key} {100 * float(metrics[key]):.1f}" for key in keys if key in metrics)
        (LOG.info if sys.stdout.isatty() else say)(f"validation after step {trainer.global_step}: {scores}")
