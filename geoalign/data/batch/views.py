"""Loading the bank: each view of a batch once, as pixels at every size that the backbone wants."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image

from geoalign.data.images import open_rgb
from geoalign.data.records import ImageRecord
from geoalign.geometry import FRAME_PX, UPRIGHT, Crop, Pose, letterbox, look_closer, pose_image
from geoalign.types import Views


class ViewRef(NamedTuple):
    """One image under one pose, whole or a crop of it (which is posed, not the whole)."""

    image: ImageRecord
    pose: Pose = UPRIGHT
    crop: Crop | None = None

    @property
    def key(self) -> tuple[str, Pose, Crop | None]:
        """What makes two references the same view: the file (image ids may repeat between datasets)."""
        return str(self.image.path), self.pose, self.crop


@runtime_checkable
class ViewLoader(Protocol):
    """Turns references into the bank's tensors; called in DataLoader workers, so it must pickle."""

    def __call__(self, views: Sequence[ViewRef]) -> Views: ...


class PixelLoader:
    """Decodes each image once and gives uint8 frames ``(u 3 s s)`` per size.

    Args:
        sizes: sides in px that the backbone wants
        frame_px: side of the frame that crops are given in
    """

    def __init__(self, sizes: Sequence[int], frame_px: int = FRAME_PX) -> None:
        self.sizes, self.frame_px = tuple(sizes), frame_px

    def __call__(self, views: Sequence[ViewRef]) -> Views:
        frames = {size: torch.empty(len(views), 3, size, size, dtype=torch.uint8) for size in self.sizes}
        for same in _by_image(views).values():
            record = same[0][1].image
            picture, squares = open_rgb(record.path, record.size), dict[tuple[int, Crop | None], np.ndarray]()
            for (at, ref), size in itertools.product(same, self.sizes):
                if (size, ref.crop) not in squares:
                    squares[size, ref.crop] = np.asarray(self._square(picture, ref, size))
                posed = pose_image(squares[size, ref.crop], ref.pose)
                frames[size][at] = torch.from_numpy(np.array(posed)).permute(2, 0, 1)
        return {"images": frames}

    def _square(self, picture: Image.Image, ref: ViewRef, size: int) -> Image.Image:
        if ref.crop is None:
            return letterbox(picture, size, framing=ref.image.framing)
        return look_closer(picture, ref.crop, size, self.frame_px, ref.image.framing)


def _by_image(views: Sequence[ViewRef]) -> dict[str, list[tuple[int, ViewRef]]]:
    found: dict[str, list[tuple[int, ViewRef]]] = {}
    for at, ref in enumerate(views):
        found.setdefault(str(ref.image.path), []).append((at, ref))
    return found
