"""FreeU as the paper's released features have it: a rule by channel count (diffusers' own differs)."""

from __future__ import annotations

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

    Those are the frequencies -1 and 0 of each axis. Computed in float32: half-precision transforms exist only
    for powers of two.
    """
    gain = torch.ones(skip.shape[-2:], device=skip.device)
    gain[-1, -1] = gain[-1, 0] = gain[0, -1] = gain[0, 0] = scale
    filtered: Tensor = torch.fft.ifft2(torch.fft.fft2(skip.float()) * gain).real
    return filtered.to(skip.dtype)
