"""An exponential moving average of the refiner's weights beside them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from geoalign.refiner.base import PREFIX

CURRENT = "current_model_state"


def _on_refiner(name: str) -> Callable[..., None]:
    """Lightning's hook of this name, shown the refiner in the module's place."""
    hook = getattr(EMAWeightAveraging, name)
    return lambda self, trainer, pl_module, *rest: hook(self, trainer, _refiner(pl_module), *rest)


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
        self._kwargs["avg_fn"] = partial(_unmoved, self._kwargs["avg_fn"])

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copy the refiner that is to be averaged."""
        if stage == "fit":
            self._average_model = AveragedModel(_refiner(pl_module), pl_module.device, use_buffers=True, **self._kwargs)

    on_train_batch_end = _on_refiner("on_train_batch_end")
    on_train_epoch_end = _on_refiner("on_train_epoch_end")
    on_validation_epoch_start = _on_refiner("on_validation_epoch_start")
    on_validation_epoch_end = _on_refiner("on_validation_epoch_end")
    on_train_end = _on_refiner("on_train_end")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """The average in place of the weights, those trained on beside it."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if CURRENT in checkpoint:  # the average has taken the place of the weights, under the refiner's own names
            average = {PREFIX + name: value for name, value in checkpoint["state_dict"].items()}
            checkpoint["state_dict"] = {**checkpoint[CURRENT], **average}  # and what else the module holds: a teacher

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Both back under the names that Lightning's average knows."""
        states = {key: _own(checkpoint[key]) for key in ("state_dict", CURRENT) if key in checkpoint}
        super().on_load_checkpoint(trainer, _refiner(pl_module), {**checkpoint, **states})


def _unmoved(average: Callable[..., Tensor], kept: Tensor, current: Tensor, count: Any) -> Tensor:
    """The average; of equal tensors, as a tail's frozen ones, themselves: it would drift by rounding."""
    return current if torch.equal(kept, current) else average(kept, current, count)


def _refiner(module: LightningModule) -> Any:
    return module.refiner


def _own(state: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
