"""Points, visibility and slots move together when a view's pose or crop changes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from geoalign.geometry import Crop, Pose, Real, crop_points, pose_points


def pose_slots(
    xy_px: Float[np.ndarray, "n 2"],
    visible: Bool[np.ndarray, "n"],
    pose: Pose,
    partner: Int[np.ndarray, "n"],
    frame: Real,
) -> tuple[Float[np.ndarray, "n 2"], Bool[np.ndarray, "n"]]:
    """Points (pixels of a square of side ``frame``) and visibility under a pose.

    A flip renames each slot to its mirror ``partner`` (``Symmetry.permutation``). Right angles lose nothing; other
    angles hide the points that leave the square. Points that are not visible come out zero.
    """
    moved = pose_points(xy_px, pose, frame)
    if pose.degrees % 90:  # right angles map the square onto itself: nothing can leave it
        visible = visible & ((moved >= 0) & (moved <= frame)).all(axis=-1)
    if pose.flip:
        moved, visible = moved[partner], visible[partner]
    return np.where(visible[:, None], moved, 0).astype(xy_px.dtype), visible.copy()


def crop_slots(
    xy_px: Float[np.ndarray, "n 2"], visible: Bool[np.ndarray, "n"], crop: Crop, frame: Real
) -> tuple[Float[np.ndarray, "n 2"], Bool[np.ndarray, "n"]]:
    """Points of the frame in the frame that shows a crop alone; those beside it are not visible and come out zero."""
    moved = crop_points(xy_px, np.array(crop, dtype=xy_px.dtype), frame)
    seen = visible & ((moved >= 0) & (moved <= frame)).all(axis=-1)
    return np.where(seen[:, None], moved, 0).astype(xy_px.dtype), seen
