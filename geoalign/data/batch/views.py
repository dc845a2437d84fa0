"""Loading the bank: each view of a batch once, as pixels at every size that the backbone wants."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image

from geoalign.data.batch.colours import Colours, paint
from geoalign.data.images import open_rgb
from geoalign.data.records import ImageRecord
from geoalign.geometry import FRAME_PX, UPRIGHT, Crop, Pose, letterbox, look_closer, picture_extent, pose_image
from geoalign.types import Views

ViewKey = tuple[str, Pose, Crop | None, Colours]


class ViewRef(NamedTuple):
    """One image under one pose, whole or a crop of it (which is posed, not the whole), in its own or other colours."""

    image: ImageRecord
    pose: Pose = UPRIGHT
    crop: Crop | None = None
    colours: Colours = ()

    @property
    def key(self) -> ViewKey:
        """What makes two references the same view: the file (image ids may repeat between datasets)."""
        return str(self.image.path), self.pose, self.crop, self.colours


def shown(image: ImageRecord, pose: Pose) -> ViewRef:
    """An image under a row's pose; where the record is ``mirrored`` its mirror image stands for it."""
    return ViewRef(image, pose._replace(flip=pose.flip != image.mirrored))


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
            picture, squares = open_rgb(record.path, record.size), dict[object, np.ndarray]()
            for (at, ref), size in itertools.product(same, self.sizes):
                unposed = size, ref.crop, ref.colours
                if unposed not in squares:
                    squares[unposed] = np.asarray(self._coloured(self._square(picture, ref, size), ref))
                posed = pose_image(squares[unposed], ref.pose)
                frames[size][at] = torch.from_numpy(np.array(posed)).permute(2, 0, 1)
        return {"images": frames}

    def _square(self, picture: Image.Image, ref: ViewRef, size: int) -> Image.Image:
        if ref.crop is None:
            return letterbox(picture, size, framing=ref.image.framing)
        return look_closer(picture, ref.crop, size, self.frame_px, ref.image.framing)

    def _coloured(self, square: Image.Image, ref: ViewRef) -> Image.Image:
        """The square with its picture in other colours; bars stay black, and do not count in what is equalised."""
        if ref.colours:
            extent = picture_extent(ref.image.size, UPRIGHT, ref.crop, self.frame_px, ref.image.framing)
            x1, y1, x2, y2 = (round(side * square.width / self.frame_px) for side in extent)
            if x1 < x2 and y1 < y2:
                square.paste(paint(square.crop((x1, y1, x2, y2)), ref.colours), (x1, y1))
        return square


def _by_image(views: Sequence[ViewRef]) -> dict[str, list[tuple[int, ViewRef]]]:
    found: dict[str, list[tuple[int, ViewRef]]] = {}
    for at, ref in enumerate(views):
        found.setdefault(str(ref.image.path), []).append((at, ref))
    return found
