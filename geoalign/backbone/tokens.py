"""Pixels into a vision transformer, and its tokens back onto the grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def parse_dtype(name: str) -> torch.dtype:
    """A torch type by its config name."""
    if name not in _DTYPES:
        raise ValueError(f"dtype is one of {', '.join(_DTYPES)}, got {name!r}")
    return _DTYPES[name]


def normalise(
    frames: UInt8[Tensor, "u 3 s s"], mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "u 3 s s"]:
    """Pixels in [0, 1] less the mean, by the deviation, of each colour; float32."""
    shift = torch.tensor(mean, device=frames.device)[:, None, None]
    scale = torch.tensor(std, device=frames.device)[:, None, None]
    return (frames.float() / 255 - shift) / scale


def check_image_size(image_size: int, patch: int, name: str) -> int:
    """Cells a side of an image of ``image_size`` px; it must be a whole number of patches."""
    if image_size < patch or image_size % patch:
        near = max(1, round(image_size / patch)) * patch
        raise ValueError(
            f"{name} has patches of {patch} px, image_size must be a multiple of that, got {image_size}; "
            f"the nearest is {near}"
        )
    return image_size // patch
