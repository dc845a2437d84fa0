"""Where labels stand beside points: on no point, on no other label and on the page, as far as there is room."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Real

SIDES = ((1, -1), (-1, -1), (1, 1), (-1, 1), (1, 0), (-1, 0), (0, -1), (0, 1))
"""Right above first, as readers expect."""
AWAY = (1.0, 2.5, 4.0)
"""Distances from the point that are tried, in radii."""


def place_tags(
    xy_px: Real[np.ndarray, "n 2"], sizes: Real[np.ndarray, "n 2"], radius: float, page: tuple[int, int]
) -> Float[np.ndarray, "n 2"]:
    """The left upper corner of each label of ``sizes`` (width, height); one after the other, nearest side first.

    A label of no width takes no room. ``radius`` is that of the points' marks, ``page`` its (width, height).
    """
    xy, corners = np.asarray(xy_px, float).reshape(-1, 2), np.zeros((len(xy_px), 2))
    taken = np.concatenate([xy - radius, xy + radius], 1)
    for i, (width, height) in enumerate(np.asarray(sizes, float).reshape(-1, 2).tolist()):
        if width:
            ways = [_beside(xy[i], (width, height), side, radius * away) for away in AWAY for side in SIDES]
            costs = [_covered(way, taken) + 4 * _off(way, page) for way in ways]
            box = ways[int(np.argmin(costs))]
            corners[i], taken = box[:2], np.concatenate([taken, box[None]])
    return corners


def _beside(xy: np.ndarray, size: tuple[float, float], side: tuple[int, int], away: float) -> np.ndarray:
    """x1 y1 x2 y2 of a label on one side of a point."""
    start = [xy[axis] + side[axis] * away + (side[axis] - 1) / 2 * size[axis] for axis in (0, 1)]
    return np.array([*start, start[0] + size[0], start[1] + size[1]])


def _covered(box: np.ndarray, taken: np.ndarray) -> float:
    """px² of what is there already under a label."""
    sides = np.minimum(box[2:], taken[:, 2:]) - np.maximum(box[:2], taken[:, :2])
    return float(np.clip(sides, 0, None).prod(1).sum())


def _off(box: np.ndarray, page: tuple[int, int]) -> float:
    """px² of a label that the page does not show."""
    sides = np.clip(np.minimum(box[2:], page) - np.maximum(box[:2], 0), 0, None)
    return float(np.prod(box[2:] - box[:2]) - np.prod(sides))
