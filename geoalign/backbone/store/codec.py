"""How a map is stored: three float types as they are, or 8-bit codes with a scale and offset per channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int8
from torch import Tensor

Precision = Literal["fp32", "fp16", "bf16", "int8"]

DTYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "int8": torch.int8,
}

_BLOCK = 1 << 18
"""Elements dequantised at a time, 1 MB of float32."""


class Encoded(NamedTuple):
    """One stored map; ``scale`` and ``offset`` are None but for int8."""

    codes: Tensor  # (c h w)
    scale: Tensor | None = None  # (c) float32
    offset: Tensor | None = None  # (c) float32

    def to(self, device: str, copy: bool = False) -> Encoded:
        """On a device; ``copy`` makes it independent of a mapped file."""
        scale, offset = (None if x is None else x.to(device, copy=copy) for x in (self.scale, self.offset))
        return Encoded(self.codes.to(device, copy=copy), scale, offset)


def quantize(x: Float[Tensor, "c h w"]) -> tuple[Int8[Tensor, "c h w"], Float[Tensor, "c"], Float[Tensor, "c"]]:
    """Codes, scale and offset with ``x = codes * scale + offset`` to within ``scale / 2``.

    Each channel's own range is cut into 255 steps, so a constant channel comes back exactly. A channel with a value
    or a range that is not finite has such a scale or offset.

    >>> quantize(torch.tensor([[[0.0, 1.0, 255.0]]]))[0].tolist()
    [[[-128, -127, 127]]]
    """
    flat = x.float().flatten(1)
    low, high = flat.aminmax(dim=1)
    scale = (high - low) / 255
    # Below the smallest normal number the steps would be lost; such a channel is constant to every purpose.
    scale = torch.where(scale < torch.finfo(torch.float32).tiny, 0.0, scale)
    steps = torch.where(scale > 0, scale, 1.0)
    codes = ((flat - low[:, None]) / steps[:, None]).round_().clamp_(0, 255).sub_(128)
    return codes.to(torch.int8).view(x.shape), scale, low + 128 * scale


def dequantize(
    codes: Int8[Tensor, "c h w"],
    scale: Float[Tensor, "c"],
    offset: Float[Tensor, "c"],
    out: Float[Tensor, "c h w"] | None = None,
) -> Float[Tensor, "c h w"]:
    """Undo :func:`quantize`; float32, or into ``out`` (computed in float32, rounded once)."""
    out = empty(codes.shape, torch.float32, codes.device) if out is None else out
    # On a CPU the three passes stay in cache this way: twice as fast as one pass over the whole map at a time.
    rows = len(codes) if codes.is_cuda else max(1, _BLOCK // max(1, codes[0].numel()))
    constants = (x[:, None, None].split(rows) for x in (scale, offset))
    for target, block, factor, shift in zip(out.split(rows), codes.split(rows), *constants, strict=True):
        floats = target if target.dtype == torch.float32 else torch.empty_like(target, dtype=torch.float32)
        floats.copy_(block).mul_(factor).add_(shift)
        if floats is not target:
            target.copy_(floats)
    return out


def encode(x: Float[Tensor, "c h w"], precision: Precision) -> Encoded:
    """A map as it is stored, on the map's device, in memory of its own."""
    if precision == "int8":
        return Encoded(*quantize(x))
    return Encoded(x.to(DTYPES[precision], memory_format=torch.contiguous_format, copy=True))


def decode(encoded: Encoded, dtype: torch.dtype | None = torch.float32) -> Float[Tensor, "c h w"]:
    """The map; ``dtype=None`` gives the stored type without a copy (float32 for int8)."""
    if encoded.scale is None and dtype in (None, encoded.codes.dtype):
        return encoded.codes
    out = empty(encoded.codes.shape, dtype or torch.float32, encoded.codes.device)
    decode_into(out, encoded)
    return out


def decode_into(out: Float[Tensor, "c h w"], encoded: Encoded) -> None:
    """:func:`decode` into memory that is already there."""
    codes, scale, offset = encoded
    if scale is None or offset is None:
        out.copy_(codes)
    else:
        dequantize(codes, scale, offset, out)


def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory for a decoded map or a stack of them."""
    if device.type != "cpu":
        return torch.empty(tuple(shape), dtype=dtype, device=device)
    # NumPy asks Linux for huge pages, torch does not: fresh memory of this size is then filled several times faster.
    return torch.from_numpy(np.empty(math.prod(shape) * dtype.itemsize, np.uint8)).view(dtype).view(tuple(shape))


def is_finite(encoded: Encoded) -> bool:
    """Whether every stored number is finite (for int8 the scales tell)."""
    return all(part is None or part.dtype == torch.int8 or bool(torch.isfinite(part).all()) for part in encoded)
