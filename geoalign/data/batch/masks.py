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
from geoalign.geometry import letterbox, letterbox_points, pose_image


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


def load_masks(views: Sequence[ViewRef], side: int, loader: MaskLoader = dataset_mask) -> Bool[Tensor, "u m m"]:
    """Masks in the frame at ``side`` px, each image's loaded once and posed with its views."""
    images = {str(ref.image.path): ref.image for ref in views}
    upright = {path: loader(image, side) for path, image in images.items()}
    return torch.stack([torch.from_numpy(pose_image(upright[str(ref.image.path)], ref.pose)) for ref in views])


def subject_mask(image: ImageRecord, side: int) -> Bool[np.ndarray, "m m"]:
    """The dataset's segmentation, or its box where an image has none, in the frame at ``side`` px (for training)."""
    mask = dataset_mask(image, side)
    if mask.any():
        return mask
    corners = letterbox_points(np.array(image.box_px).reshape(2, 2), image.size, side)
    inside = (np.arange(side) + 0.5 >= corners[:1].T) & (np.arange(side) + 0.5 <= corners[1:].T)
    return inside[1][:, None] & inside[0]
