"""Several backbones as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxtyping import UInt8
from torch import Tensor, nn

from geoalign.backbone.base import Backbone
from geoalign.blocks import Rest
from geoalign.types import Maps


class Fusion(Backbone):
    """The maps of all ``backbones``, in their order; each keeps its own groups for zero-shot descriptors.

    Names of a mapping are for people and change nothing.

    Args:
        backbones: by name
        grid: cells a side, needed only where the backbones disagree
        cut: of the one backbone that takes it: the yaml hands it on
    """

    def __init__(
        self,
        backbones: Mapping[str, Backbone] | Sequence[Backbone],
        grid: int | None = None,
        cut: int | None = None,
    ) -> None:
        """Raises ValueError for no backbones, no cut where one is wanted, or several grids."""
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
        self.rest = _joined_rest(parts)
        if cut is not None and self.rest is None:
            raise ValueError(
                f"none of these backbones was cut, got backbone.cut={cut}; set backbone.backbones.<name>.cut"
            )
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
    return _counted_through((len(part.channels), part.groups) for part in parts)


def _counted_through(parts: Iterable[tuple[int, Sequence[Sequence[int]]]]) -> tuple[tuple[int, ...], ...]:
    """Groups of parts of so many maps each, as groups of all maps."""
    joined: list[tuple[int, ...]] = []
    start = 0
    for count, groups in parts:
        joined += [tuple(start + index for index in group) for group in groups]
        start += count
    return tuple(joined)


def _joined_rest(parts: Sequence[Backbone]) -> Rest | None:
    """What the one part with a cut leaves out, with the maps of the others around its own."""
    cut = [i for i, part in enumerate(parts) if part.rest is not None]
    if len(cut) > 1:
        raise ValueError(f"one backbone of a fusion may have a cut, got {len(cut)}; set cut=null in the others")
    if not cut or (rest := parts[cut[0]].rest) is None:
        return None
    wholes = [part.whole for part in parts]
    every = {
        "first": sum(len(part.channels) for part in parts[: cut[0]]),
        "inputs": [count for part in parts for count in part.channels],
        "outputs": [count for channels, _ in wholes for count in channels],
        "groups": [list(group) for group in _counted_through((len(channels), groups) for channels, groups in wholes)],
    }
    return Rest({**rest.network, **every}, rest.state)
