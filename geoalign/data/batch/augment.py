"""Everything that belongs to a view moves together when its pose changes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from geoalign.geometry import Pose, Real, pose_image, pose_points


class View(NamedTuple):
    """One frame and what is annotated in it; points and box are pixels of the ``frame`` it was made for."""

    pixels: np.ndarray  # (s s 3) uint8
    xy_px: np.ndarray  # (n 2) floating, zero where not visible
    visible: np.ndarray  # (n) bool
    box_px: tuple[Real, Real, Real, Real]  # x1 y1 x2 y2
    mask: np.ndarray | None = None  # (m m) bool, any resolution


def pose_view(view: View, pose: Pose, partner: np.ndarray | None = None, frame: Real | None = None) -> View:
    """The view mirrored and turned: pixels, points, visibility, box, mask and slots together.

    ``partner`` (n) maps each slot to its mirror partner (``Symmetry.permutation``) and is needed by flips.
    ``frame`` is the side in which points and box are given; by default that of the pixels.
    Right angles are exact and lose nothing; other angles hide the points that leave the square.
    """
    side = float(view.pixels.shape[0] if frame is None else frame)
    xy_px, visible = pose_slots(view.xy_px, view.visible, pose, partner, side)
    return View(
        pixels=pose_image(view.pixels, pose),
        xy_px=xy_px,
        visible=visible,
        box_px=pose_box(view.box_px, pose, side),
        mask=None if view.mask is None else pose_image(view.mask, pose),
    )


def pose_slots(
    xy_px: np.ndarray, visible: np.ndarray, pose: Pose, partner: np.ndarray | None, frame: Real
) -> tuple[np.ndarray, np.ndarray]:
    """Points ``(n 2)`` and visibility ``(n)`` under a pose, slots renamed by ``partner`` after a flip."""
    moved = pose_points(xy_px, pose, frame)
    if pose.degrees % 90:  # right angles map the square onto itself: nothing can leave it
        visible = visible & ((moved >= 0) & (moved <= frame)).all(axis=-1)
    if pose.flip:
        slots = _checked_partner(partner, len(visible))
        moved, visible = moved[slots], visible[slots]
    return np.where(visible[:, None], moved, 0).astype(xy_px.dtype), visible.copy()


def pose_box(box_px: tuple[Real, Real, Real, Real], pose: Pose, frame: Real) -> tuple[float, float, float, float]:
    """The upright box around a posed box, clipped to the frame.

    >>> pose_box((10.0, 20.0, 30.0, 60.0), Pose(False, 90.0), 100.0)
    (20.0, 70.0, 60.0, 90.0)
    """
    x1, y1, x2, y2 = box_px
    corners = pose_points(np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], dtype=np.float64), pose, frame)
    if pose.degrees % 90:
        corners = corners.clip(0.0, frame)
    (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return left, top, right, bottom


def _checked_partner(partner: np.ndarray | None, slots: int) -> np.ndarray:
    """The permutation of a flip: present, complete and its own inverse."""
    if partner is None:
        raise ValueError(
            "a flip renames left and right keypoints, but no mirror table was given; "
            "pass partner=symmetry.permutation(slots), or leave flips off for this dataset"
        )
    if not np.array_equal(np.sort(partner), np.arange(slots)) or not np.array_equal(partner[partner], np.arange(slots)):
        raise ValueError(f"partner must be a permutation of {slots} slots that undoes itself, got {partner.tolist()}")
    return partner
