"""A desk over a tiny backbone that counts what it looks at, and files to put on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers.tiny import TinyBackbone
from PIL import Image
from torch import Tensor

from geoalign.apps.matcher import ImageMatcher
from geoalign.demo.desk import Desk
from geoalign.matching import Matcher
from geoalign.refiner import Identity
from geoalign.refiner.base import Refiner
from geoalign.types import Maps


class Counted(TinyBackbone):
    """Counts the views it has seen."""

    views = 0

    def extract(self, images: dict[int, Tensor]) -> Maps:
        """Maps, and one more on the count for every view."""
        self.views += len(next(iter(images.values())))
        return super().extract(images)


class Twisted(Refiner):
    """A refiner of sorts: descriptors with their channels' signs turned here and there."""

    def __init__(self, backbone: TinyBackbone) -> None:
        super().__init__()
        self.own = Identity(backbone.channels, backbone.grid, backbone.groups)
        self.channels, self.grid = self.own.channels, self.own.grid

    def config(self) -> dict[str, Any]:
        """Nothing: it is never loaded."""
        return {}

    def forward(self, maps: Maps) -> Tensor:
        """Unit descriptors ``(u c g g)``."""
        found = self.own(maps)
        return torch.nn.functional.normalize(found + found.roll(1, 1) * found.roll(3, 2), dim=1)


def tiny_desk(refined: bool = False, budget: int = 10**9, share: int = 10**9) -> Desk:
    """A desk that opens and matches in milliseconds."""
    backbone = Counted(image_size=128)
    refiner = Twisted(backbone) if refined else Identity(backbone.channels, backbone.grid, backbone.groups)
    return Desk(ImageMatcher(backbone, refiner, Matcher(readout="argmax")), budget, share)


def noise(h: int = 96, w: int = 128, seed: int = 0) -> np.ndarray:
    """A picture that is nowhere like itself elsewhere."""
    return np.random.default_rng(seed).integers(0, 255, (h, w, 3), dtype=np.uint8)


def saved(folder: Path, name: str, pixels: np.ndarray) -> Path:
    """A picture as a file."""
    Image.fromarray(pixels).save(folder / name)
    return folder / name


BAD = ("text", "empty", "huge", "cut")


def bad_file(folder: Path, what: str) -> Path:
    """A file that is no picture: text, 0 bytes, 300 million pixels, or cut in half."""
    path = folder / f"{what}.png"
    if what == "huge":
        Image.new("1", (20_000, 15_000)).save(path)
    elif what == "cut":
        whole = saved(folder, "whole.png", noise()).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    else:
        path.write_text("no picture" if what == "text" else "")
    return path
