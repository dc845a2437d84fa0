"""The paper's refiner ("post-processor"): a bottleneck per frozen map, mixed and normalised.

docs/protocol.md#refiner.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from geoalign.maps import centred
from geoalign.refiner.base import Refiner, check_channels
from geoalign.types import Maps

VIEWS_ON_CPU = 1
"""Views refined together on a CPU: activations of one view (11 MB) are reused from cache, larger ones paged in."""
VIEWS = 32
"""Views refined together on other devices: enough to fill one, and a bound on the memory of large banks."""


class ConvNorm(nn.Conv2d):
    """Convolution without bias followed by GroupNorm; the norm sits inside, as in the released weights."""

    def __init__(self, c_in: int, c_out: int, kernel: int, groups: int) -> None:
        super().__init__(c_in, c_out, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.GroupNorm(groups, c_out)

    def forward(self, x: Float[Tensor, "u c h w"]) -> Float[Tensor, "u d h w"]:
        """The normalised convolution."""
        return self.norm(super().forward(x))

    def project(self, x: Float[Tensor, "u c h w"]) -> Float[Tensor, "u d h w"]:
        """The convolution alone."""
        return super().forward(x)


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 with ReLU between, plus a shortcut, projected where the widths differ."""

    def __init__(self, c_in: int, hidden: int, c_out: int, groups: int = 32) -> None:
        super().__init__()
        self.shortcut = ConvNorm(c_in, c_out, 1, groups) if c_in != c_out else None
        self.conv1 = ConvNorm(c_in, hidden, 1, groups)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups)
        self.conv3 = ConvNorm(hidden, c_out, 1, groups)

    def forward(self, x: Float[Tensor, "u c h w"], grid: int) -> Float[Tensor, "u d g g"]:
        """Map ``(u c h w)`` of any resolution to ``(u c_out grid grid)``.

        1×1 convolutions commute with bilinear resampling (both linear, the weights sum to one), so they run
        at the map's own resolution and only their output is resampled: equal to 1e-6, cheaper by cells².
        """
        # neither the norm nor the 3×3 commutes with resampling: both see the grid, as in the release
        # GroupNorm needs its input for the gradient, never its output: what follows it may work in place
        hidden = F.relu_(self.conv1.norm(resample(self.conv1.project(x), grid)))
        main = self.conv3(F.relu_(self.conv2(hidden)))
        if self.shortcut is None:
            return F.relu_(main.add_(resample(x, grid)))
        return F.relu_(main.add_(self.shortcut.norm(resample(self.shortcut.project(x), grid))))


class Aggregation(Refiner):
    """Σ softmax(mixing)_i · bottleneck_i(map_i), unit length over channels (docs/protocol.md#refiner).

    Args:
        channels: of the frozen maps, in order
        grid: cells a side
        width: channels of the refined descriptor
        hidden: channels inside the bottlenecks; null: width / 4
        dropout: of the input maps while training
        dropout_at: grid: after resampling (as released) | native: before (cheaper)
        centre: subtract each picture's mean feature, map by map
    """

    def __init__(
        self,
        channels: Sequence[int],
        grid: int = 60,
        width: int = 768,
        hidden: int | None = None,
        dropout: float = 0.2,
        dropout_at: Literal["native", "grid"] = "grid",
        centre: bool = False,
    ) -> None:
        super().__init__()
        hidden = width // 4 if hidden is None else hidden  # the ratio of ResNet's bottlenecks, as released
        if width % 32 or hidden % 32:
            raise ValueError(f"GroupNorm needs multiples of 32, got width {width} and hidden {hidden}")
        self.channels, self.grid, self.width, self.hidden = tuple(channels), grid, width, hidden
        self.dropout, self.dropout_at, self.centre = dropout, dropout_at, centre
        # equal at first: softmax makes shares of them, so that no map can grow by growing its weight alone
        self.mixing_weights = nn.Parameter(torch.ones(len(self.channels)))
        # each wrapped in a Sequential only because the released keys read bottleneck_layers.i.0.…
        self.bottleneck_layers = nn.ModuleList(nn.Sequential(Bottleneck(c, hidden, width)) for c in self.channels)
        # CLIP's temperature; as a logarithm it stays positive whatever a step does. Matching never reads it
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        # in released files, used nowhere: kept so that they load strictly
        self.self_logit_scale = nn.Parameter(torch.tensor(math.log(10.0)), requires_grad=False)

    @property
    def scale(self) -> Float[Tensor, ""]:
        """The learned log temperature of the sparse loss, from CLIP's ln(1 / 0.07)."""
        return self.logit_scale

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, sizes spelt out."""
        return {
            "channels": list(self.channels), "grid": self.grid, "width": self.width, "hidden": self.hidden,
            "dropout": self.dropout, "dropout_at": self.dropout_at, "centre": self.centre,
        }  # fmt: skip

    def forward(self, maps: Maps) -> Float[Tensor, "u c g g"]:
        """Unit descriptors, channels last in memory: matching reads whole descriptors."""
        check_channels(maps, self.channels)
        step = VIEWS_ON_CPU if maps[0].device.type == "cpu" else VIEWS
        parts = [self.aggregate(some) for some in zip(*(m.split(step) for m in maps), strict=True)]
        return torch.cat([F.normalize(p.contiguous(memory_format=torch.channels_last), dim=1) for p in parts])

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """``torch.compile`` of every bottleneck: their shapes repeat, a bank's number of views does not."""
        for layer in self.bottleneck_layers:
            cast(nn.Sequential, layer)[0].compile(*args, **kwargs)

    def aggregate(self, maps: Maps) -> Float[Tensor, "u c g g"]:
        """The mixed maps before normalisation."""
        check_channels(maps, self.channels)
        mixing = torch.softmax(self.mixing_weights, 0)
        layers = [cast(nn.Sequential, layer)[0] for layer in self.bottleneck_layers]
        mixed: Tensor | None = None
        for weight, layer, x in zip(mixing, layers, centred(maps) if self.centre else maps, strict=True):
            part = layer(self._drop(x), self.grid)
            mixed = weight * part if mixed is None else torch.addcmul(mixed, part, weight)
        assert mixed is not None
        return mixed

    def _drop(self, x: Tensor) -> Tensor:
        if not self.training or self.dropout == 0:
            return x
        # a value dropped before resampling is missing from every cell that would be interpolated from it
        return dropout(resample(x, self.grid) if self.dropout_at == "grid" else x, self.dropout)


def dropout(x: Tensor, share: float) -> Tensor:
    """``F.dropout``; on a CPU four times quicker, from 16 random bits a value (``share`` to 1/65536)."""
    if x.device.type != "cpu":
        return F.dropout(x, share)
    dropped = round(share * 2**16)
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    keep = bits.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - 2**15
    return x * keep * (2**16 / (2**16 - dropped))


def resample(x: Float[Tensor, "u c h w"], grid: int) -> Float[Tensor, "u c g g"]:
    """Bilinear to the grid, ``align_corners=False`` (cells, not their centres, span the map); nothing where it fits."""
    if x.shape[-2:] == (grid, grid):
        return x
    if x.device.type == "cpu":  # channels last and back: 4 times quicker, both ways
        x = x.contiguous(memory_format=torch.channels_last)
    return F.interpolate(x, size=(grid, grid), mode="bilinear", align_corners=False).contiguous()
