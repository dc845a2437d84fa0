"""How fast and at what rate: learning rate, rows per second, GPU memory, beside the losses in every logger."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from geoalign.keys import telemetry_key
from geoalign.types import PairBatch


class Telemetry(Callback):
    """Logs ``train/lr``, ``train/rows_per_s`` (this rank, loading included) and ``train/gpu_peak_gib``."""

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
