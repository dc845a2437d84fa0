"""Several backbones as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import UInt8
from torch import Tensor, nn

from geoalign.backbone.base import Backbone
from geoalign.types import Maps


class Fusion(Backbone):
    """The maps of all ``backbones``, in their order; each keeps its own groups for zero-shot descriptors.

    Names of a mapping are for people and change nothing.

    Args:
        backbones: by name
        grid: cells a side, needed only where the backbones disagree
    """

    def __init__(self, backbones: Mapping[str, Backbone] | Sequence[Backbone], grid: int | None = None) -> None:
        """Raises ValueError for no backbones, or for grids that differ while ``grid`` is not set."""
        super().__init__()
        parts = list(backbones.values()) if isinstance(backbones, Mapping) else list(backbones)
        if not parts:
            raise ValueError("a fusion needs at least one backbone, got none; set backbone.backbones")
        grids = sorted({part.grid for part in parts})
        if grid is None and len(grids) > 1:
            raise ValueError(f"these backbones have grids of {grids} cells a side; choose one with backbone.grid")
        self.parts = nn.ModuleList(parts)
        self.grid = grid or grids[0]
        self.channels = tuple(count for part in parts for count in part.channels)
        self.image_sizes = tuple(dict.fromkeys(size for part in parts for size in part.image_sizes))
        self._groups = _joined_groups(parts)
        self.freeze()

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The parts' groups, counted through."""
        return self._groups

    def extract(self, images: dict[int, UInt8[Tensor, "u 3 s s"]]) -> Maps:
        """Every part's maps at its own resolution; resampling to ``grid`` is the refiner's."""
        return tuple(one for part in self.parts for one in part(images))

    def identity(self) -> dict[str, Any]:
        """The parts' identities, in order."""
        return {"name": "fusion", "parts": [part.identity() for part in self._backbones()]}

    def _backbones(self) -> list[Backbone]:
        return [part for part in self.parts if isinstance(part, Backbone)]


def _joined_groups(parts: Sequence[Backbone]) -> tuple[tuple[int, ...], ...]:
    joined: list[tuple[int, ...]] = []
    start = 0
    for part in parts:
        joined += [tuple(start + index for index in group) for group in part.groups]
        start += len(part.channels)
    return tuple(joined)
