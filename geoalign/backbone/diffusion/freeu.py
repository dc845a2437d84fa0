"""FreeU as the paper's released features have it: a rule by channel count (diffusers' own differs)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

#: Channels of the decoder state: (scale of its first half, scale of the skip's lowest frequencies).
RELEASE: Mapping[int, tuple[float, float]] = MappingProxyType({1280: (1.2, 0.9), 640: (1.4, 0.2)})


def parse_rule(rule: Mapping[int, Sequence[float]] | None, channels: Sequence[int]) -> dict[int, tuple[float, float]]:
    """A rule as plain numbers; every channel count in it must occur among a decoder's ``channels``."""
    parsed = {}
    for count, scales in (rule or {}).items():
        if int(count) not in channels:
            raise ValueError(
                f"freeu has a rule for states of {count} channels, this UNet's decoder has {sorted(set(channels))}; "
                "set freeu to a map from those to [state scale, skip scale], or to null"
            )
        if len(scales) != 2:
            raise ValueError(f"freeu[{count}] is [state scale, skip scale], got {list(scales)}")
        parsed[int(count)] = (float(scales[0]), float(scales[1]))
    return parsed


def scale_state(state: Tensor, scale: float) -> Tensor:
    """The state ``(u c h w)`` with the first half of its channels times ``scale``."""
    half = state.shape[1] // 2
    return torch.cat([state[:, :half] * scale, state[:, half:]], dim=1)


def filter_skip(skip: Tensor, scale: float) -> Tensor:
    """The skip ``(u c h w)`` with the 2x2 centre of its shifted spectrum times ``scale``, real part.

    The centre holds the frequencies -1 and 0 of each axis. Their part of the skip is a product with two small real
    matrices an axis, which half precision, any size and torch.compile can do and a complex transform cannot.
    """
    states = skip.float()
    rows, columns = _lowest(skip.shape[-2], skip.device), _lowest(skip.shape[-1], skip.device)
    low = rows[0] @ states @ columns[0].T - rows[1] @ states @ columns[1].T
    return (states + (scale - 1) * low).to(skip.dtype)


def _lowest(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of the projection of a signal on the frequencies -1 and 0."""
    place = torch.arange(size, device=device)
    angle = 2 * math.pi * (place[:, None] - place) / size
    return (1 + torch.cos(angle)) / size, -torch.sin(angle) / size
