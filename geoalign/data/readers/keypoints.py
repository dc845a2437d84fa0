"""Keypoint arrays of readers whose files mark absent points with NaN or empty cells."""

from __future__ import annotations

import numpy as np

from geoalign.data.validation import Fields, is_near


def checked_points(
    values: np.ndarray, slots: int, size: tuple[int, int], fields: Fields, key: str
) -> tuple[np.ndarray, np.ndarray]:
    """Points ``(n 2)`` with NaN where absent, as ``(slots 2)`` float32 and ``(slots)`` visibility.

    Raises ``DataError`` for half-absent points, points far outside the image and more points than slots.
    """
    if values.ndim != 2 or values.shape[1] != 2 or len(values) > slots:
        raise fields.fail(key, f"at most {slots} points (n 2)", f"shape {values.shape}", "correct it or raise slots")
    absent = np.isnan(values)
    if (absent[:, 0] != absent[:, 1]).any():
        raise fields.fail(key, "both coordinates of a point, or neither", values[absent.any(1)][0].tolist())
    seen = ~absent.any(1)
    wrong = [point for point in values[seen].tolist() if not is_near(point[0], point[1], size)]
    if wrong:
        raise fields.fail(key, f"points in or near the {size[1]}x{size[0]} image", wrong[0])
    xy, visible = np.zeros((slots, 2), np.float32), np.zeros(slots, bool)
    xy[: len(values)][seen], visible[: len(values)] = values[seen], seen
    return xy, visible


def points_box(xy: np.ndarray, visible: np.ndarray, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The smallest box around the visible points; the whole image where they span nothing."""
    if visible.any():
        (x1, y1), (x2, y2) = xy[visible].min(0).tolist(), xy[visible].max(0).tolist()
        if max(x2 - x1, y2 - y1) > 0:
            return x1, y1, x2, y2
    return 0.0, 0.0, float(size[1]), float(size[0])
