"""A picture's subject: its box in the frame, its mask in px, and whether it can be trusted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from geoalign.apps.inputs import BoxPx
from geoalign.geometry import Pose, letterbox_points, pose_points
from geoalign.passes.foreground import inner

LEAST, MOST, EDGE = 0.02, 0.65, 0.12
"""Shares of the picture that a subject takes at least and at most, and of its edge at most; others are in doubt."""


class Subject(NamedTuple):
    """A mask over the picture, and why it may be wrong; no words where nothing speaks against it."""

    mask: Bool[np.ndarray, "h w"]
    cells: Bool[np.ndarray, "g g"]  # of the frame
    doubt: str


def frame_box(box_px: BoxPx, size: tuple[int, int], pose: Pose, frame_px: int, grid: int) -> BoxPx:
    """A box of the picture in px of its square frame under a pose, at least a cell wide and high."""
    corners = pose_points(letterbox_points(np.reshape(box_px, (2, 2)), size, frame_px), pose, frame_px)
    half = np.maximum(np.ptp(corners, 0), 1.5 * frame_px / grid) / 2
    (x1, y1), (x2, y2) = (corners.mean(0) - half).tolist(), (corners.mean(0) + half).tolist()
    return x1, y1, x2, y2


def subject_mask(
    cells: Bool[Tensor, "g g"], content: Bool[Tensor, "g g"], size: tuple[int, int], box_px: BoxPx | None
) -> Subject:
    """Cells of the frame as a mask over a picture of ``size = (h, w)``; a box that was given leaves no doubt."""
    longest = max(size)
    left, top = (longest - size[1]) / 2, (longest - size[0]) / 2
    scale = cells.shape[0] / longest
    part = (left * scale, top * scale, (left + size[1]) * scale, (top + size[0]) * scale)
    soft = Image.fromarray(255 * cells.numpy().astype(np.uint8))
    mask = np.asarray(soft.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=part)) > 127
    return Subject(mask, cells.numpy(), "" if box_px is not None else doubt(cells, content))


def doubt(cells: Bool[Tensor, "g g"], content: Bool[Tensor, "g g"]) -> str:
    """What speaks against a subject that was found: next to nothing, nearly all, or much of the picture's edge."""
    edge = content & ~inner(content)
    share, at_edge = float(cells.sum() / content.sum()), float(cells[edge].float().mean())
    if not LEAST <= share <= MOST:
        return f"it takes {share:.0%} of the picture"
    return f"it takes {at_edge:.0%} of the picture's edge" if at_edge > EDGE else ""
