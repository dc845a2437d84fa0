"""Loading the bank: each view of a batch once, as pixels at every size that the backbone wants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from geoalign.data.images import open_rgb
from geoalign.data.records import ImageRecord
from geoalign.geometry import UPRIGHT, Pose, letterbox, pose_image
from geoalign.types import Views


class ViewRef(NamedTuple):
    """One image under one pose."""

    image: ImageRecord
    pose: Pose = UPRIGHT

    @property
    def key(self) -> tuple[str, Pose]:
        """What makes two references the same view: the file (image ids may repeat between datasets)."""
        return str(self.image.path), self.pose


@runtime_checkable
class ViewLoader(Protocol):
    """Turns references into the bank's tensors; called in DataLoader workers, so it must pickle."""

    def __call__(self, views: Sequence[ViewRef]) -> Views: ...


class PixelLoader:
    """Decodes each image once and gives uint8 frames ``(u 3 s s)`` per size."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = tuple(sizes)

    def __call__(self, views: Sequence[ViewRef]) -> Views:
        frames: dict[int, list[Tensor]] = {size: [] for size in self.sizes}
        for image, poses in _by_image(views).items():
            for size, square in self._squares(poses[0][1].image).items():
                frames[size] += [_tensor(pose_image(square, ref.pose)) for _, ref in poses]
            del image
        order = [at for poses in _by_image(views).values() for at, _ in poses]
        back = torch.argsort(torch.tensor(order, dtype=torch.long))
        return {"images": {size: torch.stack(found)[back] for size, found in frames.items()}}

    def _squares(self, record: ImageRecord) -> dict[int, np.ndarray]:
        picture = open_rgb(record.path, record.size)
        return {size: np.asarray(letterbox(picture, size)) for size in self.sizes}


def _by_image(views: Sequence[ViewRef]) -> dict[str, list[tuple[int, ViewRef]]]:
    found: dict[str, list[tuple[int, ViewRef]]] = {}
    for at, ref in enumerate(views):
        found.setdefault(str(ref.image.path), []).append((at, ref))
    return found


def _tensor(square: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()
