"""Up-sampling heads: transposed convolutions from the features' grid to one 2, 4 or more times finer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from geoalign.bank import Bank, DecodedBank, PlainBank, forgetting
from geoalign.geometry import FRAME_PX, Real
from geoalign.refiner.base import Refiner
from geoalign.refiner.heads.base import Head
from geoalign.types import Maps

Block = Literal["marco", "simplematch"]
Norm = Literal["group", "batch"]
Memory = Literal["views", "rows"]


class UpsampleHead(Head):
    """A refiner's descriptors on a grid ``finer`` times denser, by MARCO's or SimpleMatch's layers.

    With ``skip`` the layers are added to the bilinear up-sampling of their input, and their last one starts at zero:
    before the first step the head *is* bilinear up-sampling, so that training starts from what the refiner knows.

    Args:
        finer: cells per cell of the features, along a side; blocks of marco double it: 2, 4, 8, …
        block: marco: (transposed 2×2, GELU, depthwise 3×3, layer norm) per doubling | simplematch: bilinear plus
            transposed 2×2, two residual 3×3, bilinear to ``finer``, two residual 3×3, linear.
        width: channels of the fine descriptors; null: the refiner's.
        skip: add the layers to the bilinear up-sampling of their input (ours); false: the layers alone, as published.
        normalise: true: unit length, similarities are cosines | false: dot products as they are (MARCO). Temperatures
            are of the similarity's size then: 10 where cosines have 0.02 (``matcher.temperature``, also the loss's).
        norm: of simplematch: group | batch, as published: a view then depends on the others of its batch, and results
            on the number of ranks.
        dropout: share of the input dropped while training (SimpleMatch: 0.3).
        memory: views: the fine maps of all views are held (60 to 240 cells, 768 channels: 177 MB a view, eight times
            that while training) | rows: each is made when it is asked for and again in the backward pass, so that
            memory is one view's and the similarity maps' (230 kB a keypoint), for more work.

    Raises:
        ValueError: a factor that the block cannot reach, a width below 1, a share outside 0 to 1, a foreign name, batch
            statistics of views that are not there together.
    """

    def __init__(
        self,
        refiner: Refiner,
        finer: int = 4,
        block: Block = "marco",
        width: int | None = None,
        skip: bool = True,
        normalise: bool = True,
        norm: Norm = "group",
        dropout: float = 0.0,
        memory: Memory = "views",
    ) -> None:
        super().__init__(refiner, finer)
        _check(finer, block, width, norm, dropout)
        if memory not in ("views", "rows") or (memory == "rows" and self._batched(block, norm)):
            raise ValueError(
                f"head.memory is views, or rows without batch statistics; got {memory!r} with norm={norm}; set "
                "head.memory=views or head.norm=group"
            )
        self.memory = memory
        self.block, self.skip, self.normalise, self.norm, self.dropout = block, skip, normalise, norm, dropout
        c_in, self.width = refiner.width, refiner.width if width is None else width
        make = _doublings(c_in, self.width, finer) if block == "marco" else _residuals(c_in, self.width, finer, norm)
        self.layers = nn.Sequential(*make)
        # another width turns the input as a whole: cosines stay nearly what they were
        self.project = nn.Conv2d(c_in, self.width, 1, bias=False) if skip and self.width != c_in else None
        if self.project is not None:
            nn.init.orthogonal_(self.project.weight, gain=math.sqrt(max(1.0, c_in / self.width)))
        if skip:
            last = cast(nn.Conv2d | ChannelNorm, self.layers[-1])
            nn.init.zeros_(last.weight)
            nn.init.zeros_(cast(nn.Parameter, last.bias))

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, the refiner by its recipe."""
        return {
            **super().config(), "block": self.block, "width": self.width, "skip": self.skip,
            "normalise": self.normalise, "norm": self.norm, "dropout": self.dropout, "memory": self.memory,
        }  # fmt: skip

    def forward(self, maps: Maps) -> Float[Tensor, "u c g g"]:
        """Fine descriptors, channels last in memory; of unit length unless ``normalise`` is off."""
        coarse = self.coarse(maps)
        # a view's fine map is large: one at a time reuses memory; batch statistics need all
        step = len(coarse) if self._batched(self.block, self.norm) else 1
        return torch.cat([self._fine(some) for some in coarse.split(max(1, step))])

    def bank(self, maps: Maps, frame_px: Real = FRAME_PX) -> Bank:
        """The fine descriptors as a bank, which holds them or makes them when asked."""
        if self.memory == "rows":
            return DecodedBank(self.coarse(maps), self, frame_px, self.normalise)
        return PlainBank(self(maps), frame_px, self.finer, self.normalise)

    def coarse(self, maps: Maps) -> Float[Tensor, "u c g g"]:
        """What the layers see of the refiner's descriptors."""
        return F.dropout(super().coarse(maps), self.dropout, self.training)

    @property
    def whole(self) -> bool:
        """Similarities are over the whole fine grid."""
        return True

    def everywhere(self, coarse: Float[Tensor, "c h w"]) -> Float[Tensor, "d fh fw"]:
        """One view's fine descriptors."""
        return self._fine(coarse[None])[0]

    def at(self, coarse: Float[Tensor, "c h w"], xy_cell: Float[Tensor, "m 2"]) -> Float[Tensor, "m d"]:
        """Fine descriptors of one view at points, in coarse cells."""
        view = torch.zeros(len(xy_cell), dtype=torch.long, device=xy_cell.device)
        return forgetting(lambda one: self._one(one).at(view, xy_cell + 0.5), coarse)

    def similarity(self, coarse: Float[Tensor, "c h w"], descriptors: Float[Tensor, "k d"]) -> Float[Tensor, "k fh fw"]:
        """Similarity of each descriptor to every fine cell of one view."""
        view = torch.zeros(len(descriptors), dtype=torch.long, device=descriptors.device)
        return forgetting(lambda one, asked: self._one(one).similarity(asked, view), coarse, descriptors)

    def cells(self, coarse: Float[Tensor, "c h w"]) -> Float[Tensor, "d h w"]:
        """Unit descriptors of one view at the coarse cells' centres."""
        return self._one(coarse).cells(0)

    def _one(self, coarse: Tensor) -> PlainBank:
        """One view as a bank over a frame whose px are its coarse cells."""
        return PlainBank(self._fine(coarse[None]), coarse.shape[-1], self.finer, self.normalise)

    @staticmethod
    def _batched(block: Block, norm: Norm) -> bool:
        return block == "simplematch" and norm == "batch"

    def _fine(self, coarse: Tensor) -> Tensor:
        fine = self.layers(coarse)
        if self.skip:
            through = coarse if self.project is None else self.project(coarse)
            fine = fine + _bilinear(through, self.finer)
        fine = fine.contiguous(memory_format=torch.channels_last)
        return F.normalize(fine, dim=1) if self.normalise else fine


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of a map, place by place."""

    def forward(self, x: Float[Tensor, "u c h w"]) -> Float[Tensor, "u c h w"]:
        """The normalised map."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Bilinear(nn.Module):
    """Bilinear up-sampling by a factor, cells (not their centres) spanning the map."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Float[Tensor, "u c h w"]) -> Float[Tensor, "u c fh fw"]:
        """The up-sampled map."""
        return _bilinear(x, self.factor)


class Doubled(nn.Module):
    """SimpleMatch's step: bilinear up-sampling by 2 plus a transposed convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.transposed = nn.ConvTranspose2d(width, width, 2, 2)

    def forward(self, x: Float[Tensor, "u c h w"]) -> Float[Tensor, "u c fh fw"]:
        """The map at twice the resolution."""
        return _bilinear(x, 2) + self.transposed(x)


class Residual(nn.Module):
    """SimpleMatch's residual block: twice ``x + ReLU(norm(3×3(x)))``."""

    def __init__(self, width: int, norm: Norm) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), _norm(norm, width), nn.ReLU())
            for _ in range(2)
        )

    def forward(self, x: Float[Tensor, "u c h w"]) -> Float[Tensor, "u c h w"]:
        """The map after both steps."""
        for step in self.steps:
            x = x + step(x)
        return x


def _doublings(c_in: int, width: int, finer: int) -> Iterator[nn.Module]:
    """MARCO's head: a block per doubling (``upsampling_head.py`` of its release)."""
    for i in range(finer.bit_length() - 1):
        yield nn.ConvTranspose2d(width if i else c_in, width, 2, 2)
        yield nn.GELU()
        yield nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        yield ChannelNorm(width, eps=1e-6)


def _residuals(c_in: int, width: int, finer: int, norm: Norm) -> Iterator[nn.Module]:
    """SimpleMatch's head."""
    if c_in != width:
        yield nn.Conv2d(c_in, width, 1)
    yield Doubled(width)
    yield Residual(width, norm)
    if finer != 2:
        yield Bilinear(finer / 2)
    yield Residual(width, norm)
    yield nn.Conv2d(width, width, 1)


def _norm(kind: Norm, width: int) -> nn.Module:
    return nn.BatchNorm2d(width) if kind == "batch" else nn.GroupNorm(math.gcd(32, width), width)


def _bilinear(x: Tensor, factor: float) -> Tensor:
    size = (round(x.shape[-2] * factor), round(x.shape[-1] * factor))
    return F.interpolate(x.contiguous(memory_format=torch.channels_last), size, mode="bilinear", align_corners=False)


def _check(finer: int, block: str, width: int | None, norm: str, dropout: float) -> None:
    if block not in ("marco", "simplematch"):
        raise ValueError(f"head.block is marco or simplematch, got {block!r}")
    if block == "marco" and finer & (finer - 1):
        raise ValueError(
            f"head.block=marco divides a cell by 2, 4, 8, … along a side, got head.finer={finer}; set head.finer=4, or "
            "head.block=simplematch"
        )
    if norm not in ("group", "batch"):
        raise ValueError(f"head.norm is group or batch, got {norm!r}")
    if width is not None and width < 1:
        raise ValueError(f"head.width is a number of channels above 0, got {width}")
    if not 0 <= dropout < 1:
        raise ValueError(f"head.dropout is a share from 0 to below 1, got {dropout}")
