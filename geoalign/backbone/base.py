"""What a backbone is: frozen, and declaring what it produces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from geoalign.backbone.debias import Debias, noise_frames
from geoalign.blocks import Rest
from geoalign.files import short_hash
from geoalign.maps import centred
from geoalign.types import Maps


class Backbone(nn.Module):
    """Base of every backbone: never trained, never in a checkpoint.

    Subclasses set ``channels`` (per map), ``image_sizes`` (letterbox sizes they want, px) and ``grid``
    (cells a side of the common grid that the refiner works on), implement :meth:`extract`, return from
    :meth:`identity` everything that changes their output (settings, a weights id, :attr:`adjustments`), as plain data,
    and hand the options ``centre`` and ``debias`` to :meth:`adjust`, which all backbones share.
    """

    channels: tuple[int, ...]
    image_sizes: tuple[int, ...]
    grid: int
    rest: Rest | None = None
    """What lies behind the cut, for a tail; None where the whole network is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.centre, self.debias = False, cast(Debias | None, None)

    def extract(self, images: dict[int, UInt8[Tensor, "u 3 s s"]]) -> Maps:
        """Maps ``(u c_i h_i w_i)`` at native resolution from uint8 RGB frames keyed by size."""
        raise NotImplementedError

    def identity(self) -> dict[str, Any]:
        """Settings and weights id that determine the output."""
        raise NotImplementedError

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Indices of maps normalised together in a zero-shot descriptor; here one group of all maps."""
        return (tuple(range(len(self.channels))),)

    @property
    def whole(self) -> tuple[list[int], list[list[int]]]:
        """Channels and groups of the maps of the whole network, which a cut one gives with its tail only."""
        if self.rest is None:
            return list(self.channels), [list(group) for group in self.groups]
        return self.rest.network["outputs"], self.rest.network["groups"]

    @property
    def fingerprint(self) -> str:
        """Short hash of :meth:`identity`, part of every feature-store key."""
        return short_hash(self.identity())

    def adjust(self, centre: bool, debias: int | None) -> None:
        """What is done to the maps of :meth:`extract`: directions of noise taken out, then each view's mean.

        Raises:
            ValueError: a number of directions that leaves nothing, or a cut, whose state must stay as it is.
        """
        if self.rest is not None and (centre or debias):
            raise ValueError(
                f"centre and debias are for whole networks, got centre={centre} debias={debias} with a cut; set "
                "backbone.cut=null, or centre in the refiner"
            )
        most = min(self.channels) - 1
        if debias is not None and not 0 <= debias <= most:
            raise ValueError(f"debias is a number of directions up to {most} ({most + 1} channels), got {debias}")
        self.centre, self.debias = centre, Debias(debias) if debias else None

    @property
    def adjustments(self) -> dict[str, Any]:
        """The settings of :meth:`adjust` that do something, for :meth:`identity`."""
        on = {"centre": True} if self.centre else {}
        return on | ({"debias": self.debias.count} if self.debias is not None else {})

    @torch.no_grad()
    def forward(self, images: dict[int, UInt8[Tensor, "u 3 s s"]]) -> Maps:
        maps = self.extract(images)
        if self.debias is not None:
            if not self.debias.found:
                frames = {size: noise.to(maps[0].device) for size, noise in noise_frames(self.image_sizes).items()}
                self.debias.find(self.extract(frames))
            maps = self.debias(maps)
        return centred(maps) if self.centre else maps

    def train(self, mode: bool = True) -> Backbone:  # frozen means frozen, whatever Lightning calls
        return super().train(False)

    def freeze(self) -> Backbone:
        """Eval mode and no gradients; subclasses call it at the end of their constructor."""
        self.requires_grad_(False)
        return self.train(False)


def take_frames(images: Mapping[int, UInt8[Tensor, "_ 3 _ _"]], size: int) -> UInt8[Tensor, "u 3 s s"]:
    """The frames of ``size`` px, or a ValueError that names what came instead."""
    if size not in images:
        raise ValueError(f"expected frames of {size} px, got {sorted(images)}; letterbox the images to that size")
    frames = images[size]
    if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[1:] != (3, size, size):
        got = f"{frames.dtype} {tuple(frames.shape)}"
        raise ValueError(f"expected uint8 frames (u 3 {size} {size}), got {got}; letterbox the images")
    return frames


def in_parts(
    maps_of: Callable[[Tensor], Sequence[Float[Tensor, "_ _ _ _"]]], frames: UInt8[Tensor, "u 3 s s"], most: int
) -> Maps:
    """Maps of ``frames``, at most ``most`` views in one call of ``maps_of``."""
    parts = [maps_of(part) for part in frames.split(most)]
    return tuple(torch.cat(maps).contiguous() for maps in zip(*parts, strict=True))
