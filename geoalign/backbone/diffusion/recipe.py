"""The pure parts of the recipe: where crops lie, how their maps are joined, the fixed noise."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor


def crop_offsets(size: int, crop: int, overlap: int) -> list[int]:
    """Where crops begin along one axis, px; the last one ends at the image's edge.

    >>> crop_offsets(960, 512, 64), crop_offsets(960, 960, 0)
    ([0, 448], [0])
    """
    if not 0 <= overlap < crop <= size:
        raise ValueError(
            f"crops need 0 <= overlap < crop <= image, got overlap {overlap}, crop {crop}, image {size} px; "
            "set image_size, crop_px or overlap_px"
        )
    last = size - crop
    return [*range(0, last, crop - overlap), last]


def check_sizes(size: int, crop: int, overlap: int, stride: int) -> None:
    """Every crop must begin and end on a whole cell of the coarsest map, ``stride`` px wide."""
    for name, value in (("image_size", size), ("crop_px", crop), ("overlap_px", overlap)):
        if value % stride:
            raise ValueError(f"{name} must be a multiple of {stride} px for these taps, got {value}")


class CropMean:
    """Adds maps of crops at their places and divides by how many lie over each cell."""

    def __init__(self, channels: int, views: int, cells: int, crop_cells: int, device: torch.device) -> None:
        self.total = torch.zeros(views, channels, cells, cells, device=device)
        self.count = torch.zeros(views, 1, cells, cells, device=device)
        self.crop_cells = crop_cells

    def add(self, view: int, y: int, x: int, crop_map: Tensor) -> None:
        """Add the map ``(c h w)`` of a crop that begins at cell ``(y, x)``."""
        place = (view, slice(None), slice(y, y + self.crop_cells), slice(x, x + self.crop_cells))
        self.total[place] += crop_map
        self.count[place] += 1

    def mean(self) -> Tensor:
        """The joined maps ``(u c h w)``, float32."""
        return self.total / self.count


def crop_places(views: int, offsets: Sequence[int]) -> list[tuple[int, int, int]]:
    """Every crop of every view as (view, y, x), px."""
    return list(itertools.product(range(views), offsets, offsets))


def fixed_noise(count: int, channels: int, size: int, seed: int) -> Tensor:
    """``count`` noises ``(count 1 channels size size)``, drawn one after the other on the CPU.

    The same for every crop of every image, so that features depend on the image alone.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.stack([torch.randn(1, channels, size, size, generator=generator) for _ in range(count)])
