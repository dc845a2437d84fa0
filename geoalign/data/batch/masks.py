"""Masks of a batch's views: the dataset's own, or whatever a loader gives, in the frame and posed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from geoalign.data.batch.views import ViewRef
from geoalign.data.images import open_mask
from geoalign.data.records import ImageRecord
from geoalign.geometry import FRAME_PX, Crop, letterbox, letterbox_points, pose_image


@runtime_checkable
class MaskLoader(Protocol):
    """Gives an image's upright mask ``(side side)`` bool in the frame; must pickle, as a :class:`ViewLoader`."""

    def __call__(self, image: ImageRecord, side: int) -> Bool[np.ndarray, "m m"]: ...


def dataset_mask(image: ImageRecord, side: int) -> Bool[np.ndarray, "m m"]:
    """The dataset's segmentation in the frame at ``side`` px, nearest; all false where an image has none."""
    if image.mask_path is None:
        return np.zeros((side, side), dtype=bool)
    stored = Image.fromarray(open_mask(image.mask_path, image.size).astype(np.uint8))
    return np.asarray(letterbox(stored, side, Image.Resampling.NEAREST, image.framing)).astype(bool)


def load_masks(
    views: Sequence[ViewRef], side: int, loader: MaskLoader = dataset_mask, frame_px: int = FRAME_PX
) -> Bool[Tensor, "u m m"]:
    """Masks in the frame at ``side`` px, each image's loaded once; crops are in px of ``frame_px``."""
    images = {str(ref.image.path): ref.image for ref in views}
    upright = {path: loader(image, side) for path, image in images.items()}
    own = (_cropped(upright[str(ref.image.path)], ref.crop, frame_px) for ref in views)
    return torch.stack([torch.from_numpy(pose_image(mask, ref.pose)) for mask, ref in zip(own, views, strict=True)])


def _cropped(mask: Bool[np.ndarray, "m m"], crop: Crop | None, frame_px: int) -> Bool[np.ndarray, "m m"]:
    """A crop of the frame alone, nearest; nothing beside the frame."""
    if crop is None:
        return mask
    box = tuple(value * len(mask) / frame_px for value in (crop.x, crop.y, crop.x + crop.side, crop.y + crop.side))
    square = Image.fromarray(mask.astype(np.uint8))
    return np.asarray(square.transform(square.size, Image.Transform.EXTENT, box, Image.Resampling.NEAREST)).astype(bool)


def subject_mask(image: ImageRecord, side: int) -> Bool[np.ndarray, "m m"]:
    """The dataset's segmentation, or its box where an image has none, in the frame at ``side`` px (for training)."""
    mask = dataset_mask(image, side)
    if mask.any():
        return mask
    corners = letterbox_points(np.array(image.box_px).reshape(2, 2), image.size, side, image.framing)
    inside = (np.arange(side) + 0.5 >= corners[:1].T) & (np.arange(side) + 0.5 <= corners[1:].T)
    return inside[1][:, None] & inside[0]
