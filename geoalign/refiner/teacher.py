"""A refiner whose weights are another's, averaged over its steps: it teaches, and is never trained itself."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import UInt8
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from geoalign.bank import Bank
from geoalign.geometry import FRAME_PX, Real
from geoalign.refiner.base import Refiner
from geoalign.types import Maps


class Teacher(nn.Module):
    """The exponential moving average of a refiner, as :mod:`geoalign.callbacks.averaging` keeps one to be evaluated.

    Part of a module, its weights and the number of steps that it has seen lie in every checkpoint beside the refiner's.
    It gives no gradients, and stays in evaluation mode whatever ``train()`` is called on.
    """

    def __init__(self, refiner: Refiner) -> None:
        super().__init__()
        self.average = AveragedModel(refiner, use_buffers=True).requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> Teacher:
        """Nothing: a teacher drops nothing out."""
        return super().train(False)

    @torch.no_grad()
    def bank(self, maps: Maps, frames: Mapping[int, UInt8[Tensor, "u 3 s s"]], frame_px: Real = FRAME_PX) -> Bank:
        """The views as the teacher describes them, from what the refiner's own bank is made of."""
        refiner: Refiner = self.average.module  # type: ignore[assignment]  # the copy of one
        return refiner.bank_seeing(maps, frames, frame_px)

    def begin(self, refiner: Refiner) -> None:
        """Take the weights that training starts from, unless it has seen steps already."""
        if not self.average.n_averaged:
            self.average.module.load_state_dict(refiner.state_dict())

    def follow(self, refiner: Refiner, decay: float) -> None:
        """After a step: ``decay`` of the average, ``1 − decay`` of the refiner (all of it after the first step)."""
        self.average.multi_avg_fn = get_ema_multi_avg_fn(decay)
        self.average.update_parameters(refiner)
