"""What every head is: a refiner around another, whose descriptors it makes finer."""

from __future__ import annotations

import math
from typing import Any

from jaxtyping import Float
from torch import Tensor

from geoalign.refiner.base import Refiner, check_blind
from geoalign.types import Maps


class Head(Refiner):
    """A refiner that reads another's descriptors and answers on a grid ``finer`` times denser along a side.

    It expects the maps of its refiner, and shares its temperature.

    Raises:
        ValueError: a factor below 2, a refiner that has a head already, or one that looks at pictures.
    """

    def __init__(self, refiner: Refiner, finer: int) -> None:
        super().__init__()
        if finer < 2:
            raise ValueError(f"head.finer is a whole number of cells per cell, 2 or more, got {finer}; set head=none")
        if refiner.finer != 1:
            raise ValueError(
                f"a head stands on a refiner without one, got a grid {refiner.finer} times finer; choose one head"
            )
        check_blind(refiner, "a head")
        self.within, self.finer = refiner, finer
        self.channels, self.grid = refiner.channels, refiner.grid * finer

    @property
    def scale(self) -> Float[Tensor, ""] | None:
        """The refiner's own."""
        return self.within.scale

    def config(self) -> dict[str, Any]:
        """The constructor's arguments that every head has, the refiner by its recipe."""
        return {"refiner": self.within.recipe(), "finer": self.finer}

    def coarse(self, maps: Maps) -> Float[Tensor, "u c g g"]:
        """The refiner's descriptors with values of order 1, as layers start from: unit length times √c."""
        descriptors = self.within(maps)
        return descriptors * math.sqrt(descriptors.shape[1])
