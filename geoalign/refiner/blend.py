"""Frozen features beside refined ones: what training made of them, and what they knew before it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from geoalign.refiner.base import Refiner, check_blind
from geoalign.refiner.identity import Identity
from geoalign.types import Maps


class Blend(Refiner):
    """``[√(1−w)·frozen, √w·refined]``: a unit descriptor whose similarity is the mean of both, weighted by ``w``.

    The losses see it as matching does, so that training adds what frozen features lack.

    Args:
        refiner: what is trained; any refiner of maps, without a head
        channels: of the frozen maps, in order; the refiner's
        grid: cells a side; the refiner's
        weight: share w of the refined similarity, from 0 to 1; a learned one starts here
        learned: train the weight
        groups: indices of frozen maps normalised together; null: every map for itself
        centre: subtract each picture's mean feature from the frozen maps

    Raises:
        ValueError: a weight that is no share, sizes that are not the refiner's, or one that looks at pictures.
    """

    def __init__(
        self,
        refiner: Refiner,
        channels: Sequence[int] | None = None,
        grid: int | None = None,
        weight: float = 0.5,
        learned: bool = False,
        groups: Sequence[Sequence[int]] | None = None,
        centre: bool = True,
    ) -> None:
        super().__init__()
        if not 0 < weight < 1:
            raise ValueError(f"refiner.weight is a share between 0 and 1, got {weight}")
        want, got = (refiner.channels, refiner.grid), (tuple(channels or refiner.channels), grid or refiner.grid)
        if want != got or refiner.finer != 1:
            raise ValueError(
                f"a blend has the channels and grid of its refiner, {want} without a finer head, got {got} and "
                f"{refiner.finer} times finer; set them equal"
            )
        check_blind(refiner, "a blend")
        self.channels, self.grid = got
        self.within, self.frozen = refiner, Identity(*got, groups, centre)
        self.learned = learned
        self.width = self.frozen.width + refiner.width
        # as a logit it stays a share whatever a step does
        self.weight = weight
        self.logit = nn.Parameter(torch.tensor(math.log(weight / (1 - weight)))) if learned else None

    @property
    def scale(self) -> Float[Tensor, ""] | None:
        """The refiner's own."""
        return self.within.scale

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, the refiner by its recipe."""
        return {
            "refiner": self.within.recipe(), "channels": list(self.channels), "grid": self.grid,
            "weight": self.weight, "learned": self.learned, "groups": [list(g) for g in self.frozen.groups],
            "centre": self.frozen.centre,
        }  # fmt: skip

    def forward(self, maps: Maps) -> Float[Tensor, "u c g g"]:
        """Unit descriptors, channels last in memory: the frozen half before the refined one."""
        refined = self.within(maps)
        share = torch.sigmoid(self.logit) if self.logit is not None else refined.new_tensor(self.weight)
        return torch.cat([(1 - share).sqrt() * self.frozen(maps), share.sqrt() * refined], dim=1)
