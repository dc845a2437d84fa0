"""Descriptors as colours: three principal components that several pictures share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image


def shared_colours(
    descriptors: Sequence[Float[np.ndarray, "c g g"]], inside: Sequence[Bool[np.ndarray, "g g"]]
) -> list[UInt8[np.ndarray, "g g 3"]]:
    """Colours of each descriptor map; black where ``inside`` is false.

    Components and ranges (2nd to 98th percentile) are of all cells inside together, so that a colour means the same
    in every picture.
    """
    cells = np.concatenate([d[:, keep].T for d, keep in zip(descriptors, inside, strict=True)]).astype(np.float64)
    mean = cells.mean(0)
    _, axes = np.linalg.eigh((cells - mean).T @ (cells - mean))
    basis = axes[:, ::-1][:, :3]
    if basis.shape[1] < 3:
        raise ValueError(f"three components need three channels, got {basis.shape[1]}; use another backbone")
    low, high = np.percentile((cells - mean) @ basis, [2, 98], axis=0)
    span = np.maximum(high - low, 1e-9)
    pages = []
    for values, keep in zip(descriptors, inside, strict=True):
        scaled = np.clip(((np.moveaxis(values, 0, -1) - mean) @ basis - low) / span, 0, 1)
        pages.append((255 * scaled * keep[..., None]).round().astype(np.uint8))
    return pages


def crop_frame(square: UInt8[np.ndarray, "g g 3"], size: tuple[int, int]) -> Image.Image:
    """A map over the letterboxed frame as a picture of ``size = (h, w)``, without its bars."""
    longest = max(size)
    big = Image.fromarray(square).resize((longest, longest), Image.Resampling.NEAREST)
    left, top = (longest - size[1]) // 2, (longest - size[0]) // 2
    return big.crop((left, top, left + size[1], top + size[0]))


def stack_pictures(
    pictures: Sequence[Image.Image], maps: Sequence[UInt8[np.ndarray, "g g 3"]], height: int = 260
) -> Image.Image:
    """Pictures ``height`` px high above, their colours below; as many columns as pictures."""
    tiles = []
    for picture, colours in zip(pictures, maps, strict=True):
        below = crop_frame(colours, (picture.height, picture.width))
        size = (max(1, round(picture.width * height / picture.height)), height)
        tiles.append((picture.convert("RGB").resize(size, Image.Resampling.LANCZOS), below.resize(size)))
    page = Image.new("RGB", (sum(a.width for a, _ in tiles) + 8 * (len(tiles) - 1), 2 * height + 8), "white")
    left = 0
    for above, below in tiles:
        page.paste(above, (left, 0))
        page.paste(below, (left, height + 8))
        left += above.width + 8
    return page
