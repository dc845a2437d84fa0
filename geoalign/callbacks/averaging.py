"""An exponential moving average of the refiner's weights beside them."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch.optim.swa_utils import AveragedModel

from geoalign.refiner.base import PREFIX

CURRENT = "current_model_state"


class AverageWeights(EMAWeightAveraging):
    """Lightning's moving average of the refiner alone: it is validated, kept as best and tested.

    The frozen backbone is neither copied nor averaged: averages of equal numbers drift by their rounding. A checkpoint
    holds the average as its weights, and those trained on beside it.

    Args:
        decay: per optimiser step; remembers about 1 / (1 − decay) steps
    """

    def __init__(self, decay: float = 0.99) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"callbacks.ema.decay lies between 0 and 1, got {decay}")
        super().__init__(decay=decay)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._average_model = AveragedModel(_refiner(pl_module), pl_module.device, use_buffers=True, **self._kwargs)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, _refiner(pl_module), outputs, batch, batch_idx)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, _refiner(pl_module))

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_epoch_start(trainer, _refiner(pl_module))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_epoch_end(trainer, _refiner(pl_module))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_end(trainer, _refiner(pl_module))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if CURRENT in checkpoint:  # the average has taken the place of the weights, under the refiner's own names
            checkpoint["state_dict"] = {PREFIX + name: value for name, value in checkpoint["state_dict"].items()}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        states = {key: _own(checkpoint[key]) for key in ("state_dict", CURRENT) if key in checkpoint}
        super().on_load_checkpoint(trainer, _refiner(pl_module), {**checkpoint, **states})


def _refiner(module: LightningModule) -> Any:
    return module.refiner


def _own(state: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
