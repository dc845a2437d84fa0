"""What a refiner is: frozen maps in, unit descriptors on its own grid out, and plain data that makes it again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from geoalign.bank import Bank, PlainBank
from geoalign.geometry import FRAME_PX, Real
from geoalign.parts import TARGET, name_of
from geoalign.types import Maps

PREFIX = "refiner."
"""Before the names of the refiner's tensors in a run's checkpoint."""
CONFIG = "refiner"
"""Key of a run's checkpoint under which :meth:`Refiner.recipe` lies."""


class CheckpointError(ValueError):
    """A weights file is missing, damaged, or of another shape; the message says what to do."""


class Refiner(nn.Module, ABC):
    """Base of every refiner; training, checkpoints, averages, publishing and loading know no more than this.

    A subclass sets ``channels``, ``grid`` and ``width`` in its constructor, which takes plain data only and neither
    reads files nor looks into tensors: loading calls it, once without memory to compare shapes. It implements
    :meth:`forward` and :meth:`config`, and overrides what else differs.
    """

    channels: tuple[int, ...]
    """Channels of the frozen maps it expects, in their order."""
    grid: int
    """Cells a side of its output."""
    width: int
    """Channels of its descriptors."""
    finer: int = 1
    """Its cells per cell of the backbone's grid, along a side."""
    needs_px: tuple[int, ...] = ()
    """Sides (px) of the frames that it wants beside the maps."""

    @property
    def scale(self) -> Float[Tensor, ""] | None:
        """The log temperature that it learns for the sparse loss, or None."""
        return None

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Its constructor's arguments, as plain data (numbers, texts, lists, mappings of them)."""

    @abstractmethod
    def forward(self, maps: Maps) -> Float[Tensor, "u c g g"]:
        """Unit descriptors of every view, from one map ``(u c_i h_i w_i)`` per entry of ``channels``."""

    def bank(self, maps: Maps, frame_px: Real = FRAME_PX) -> Bank:
        """The views as a bank over frames of ``frame_px``; here that of :meth:`forward`'s descriptors."""
        return PlainBank(self(maps), frame_px)

    def bank_seeing(
        self, maps: Maps, frames: Mapping[int, UInt8[Tensor, "u 3 s s"]], frame_px: Real = FRAME_PX
    ) -> Bank:
        """:meth:`bank`, where frames by their side in px lie beside the maps; those of ``needs_px`` do."""
        return self.bank(maps, frame_px)

    def recipe(self) -> dict[str, Any]:
        """The class's name under ``_target_`` and :meth:`config`: what makes it again, but for its weights."""
        return {TARGET: name_of(type(self)), **self.config()}

    def trained(self) -> tuple[str, ...]:
        """Names of the tensors that training changes."""
        return tuple(name for name, value in self.named_parameters() if value.requires_grad)

    def rates(self) -> dict[str, float]:
        """Shares of the learning rate by name of a trained tensor, where it is not 1; here those of refiners within."""
        inside = {name: one for name, one in self.named_modules() if one is not self and isinstance(one, Refiner)}
        return {f"{name}.{key}": rate for name, one in inside.items() for key, rate in one.rates().items()}

    @property
    def trainable(self) -> bool:
        """Whether there is anything to train."""
        return bool(self.trained())


def check_blind(refiner: Refiner, around: str) -> None:
    """Refuse to stand around a refiner that looks at pictures: what stands around it reads descriptors of maps alone.

    Raises:
        ValueError: a refiner that wants frames.
    """
    if refiner.needs_px:
        raise ValueError(
            f"{around} stands on a refiner of maps, {type(refiner).__name__} also looks at frames of "
            f"{list(refiner.needs_px)} px; put it around, not within"
        )


def check_channels(maps: Maps, channels: tuple[int, ...]) -> None:
    """Refuse maps that do not fit, with the remedy.

    Raises:
        ValueError: maps of other channels.
    """
    got = tuple(m.shape[1] for m in maps)
    if got != channels:
        raise ValueError(f"refiner expects maps of {channels} channels, got {got}; set refiner.channels={list(got)}")
