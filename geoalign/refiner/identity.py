"""Zero-shot as a refiner: the frozen maps themselves, normalised and concatenated (docs/protocol.md#refiner)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from geoalign.bank import Bank, PlainBank
from geoalign.geometry import FRAME_PX, Real
from geoalign.maps import centred
from geoalign.refiner.aggregation import resample
from geoalign.refiner.base import Refiner, check_channels
from geoalign.types import Maps


class Identity(Refiner):
    """Maps resampled to the grid; each group of maps to unit length, then the whole again.

    Nothing is trained.

    Args:
        channels: of the frozen maps, in order
        grid: cells a side
        groups: indices of maps normalised together (SD's taps as one, DINO's as another); null: every map for itself
        centre: subtract each picture's mean feature, map by map
        unit: true: unit length, similarities are cosines | false: the maps over √width, similarities are dot products,
            and temperatures of their size; a head sees the maps as they are (MARCO)
    """

    def __init__(
        self,
        channels: Sequence[int],
        grid: int = 60,
        groups: Sequence[Sequence[int]] | None = None,
        centre: bool = False,
        unit: bool = True,
    ) -> None:
        super().__init__()
        self.channels, self.grid, self.width, self.centre = tuple(channels), grid, sum(channels), centre
        self.unit = unit
        self.groups = (
            tuple(tuple(g) for g in groups) if groups is not None else tuple((i,) for i in range(len(channels)))
        )
        if sorted(i for g in self.groups for i in g) != list(range(len(self.channels))):
            raise ValueError(f"groups must hold each of {len(self.channels)} maps once, got {self.groups}")

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, groups spelt out."""
        groups = [list(g) for g in self.groups]
        own = {"channels": list(self.channels), "grid": self.grid, "groups": groups, "centre": self.centre}
        return own | {"unit": self.unit}

    def forward(self, maps: Maps) -> Float[Tensor, "u c g g"]:
        """Descriptors of every view, of unit length unless ``unit`` is off."""
        check_channels(maps, self.channels)
        return torch.cat([self._one(one) for one in zip(*(m.split(1) for m in maps), strict=True)])

    def bank(self, maps: Maps, frame_px: Real = FRAME_PX) -> Bank:
        """The views as a bank, which says whether it compares by cosines or by dot products."""
        return PlainBank(self(maps), frame_px, unit=self.unit)

    def _one(self, maps: Maps) -> Tensor:
        """One view at a time keeps memory at the bank's own; channels last, as matching reads them."""
        on_grid = [resample(m, self.grid) for m in (centred(maps) if self.centre else maps)]
        if not self.unit:
            return torch.cat(on_grid, dim=1).contiguous(memory_format=torch.channels_last) / math.sqrt(self.width)
        # by group: a map of large values would else silence the others, and SD's taps were meant as one descriptor
        parts = [F.normalize(torch.cat([on_grid[i] for i in group], dim=1), dim=1) for group in self.groups]
        return F.normalize(torch.cat(parts, dim=1).contiguous(memory_format=torch.channels_last), dim=1)
