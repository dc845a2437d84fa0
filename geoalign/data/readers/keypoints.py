"""Points and boxes as annotation files give them, checked against the size of their image."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32

from geoalign.data.validation import Fields

FAR_OUTSIDE = 0.5
"""Points and boxes may leave the image by this share of its longer side; annotators overshoot by a few pixels."""

Box = tuple[float, float, float, float]
"""x1 y1 x2 y2 in px."""

Point = tuple[float, float]
ABSENT: Point = (float("nan"), float("nan"))


def is_near(x: Any, y: Any, size: tuple[int, int]) -> Any:
    """Whether points (numbers or arrays) lie in an image of ``size`` (h, w), or within :data:`FAR_OUTSIDE` of it."""
    slack = FAR_OUTSIDE * max(size)
    return (-slack <= x) & (x <= size[1] + slack) & (-slack <= y) & (y <= size[0] + slack)


def checked_points(
    values: Float[np.ndarray, "..."], slots: int, size: tuple[int, int], fields: Fields, key: str
) -> tuple[Float32[np.ndarray, "n 2"], Bool[np.ndarray, "n"]]:
    """Points ``(k 2)`` in px, NaN where absent, as points of all ``slots`` (zero where absent) and their visibility.

    Raises:
        DataError: half-absent points, points far outside the image of ``size`` (h, w), or more points than slots.
    """
    if values.ndim != 2 or values.shape[1] != 2 or len(values) > slots:
        raise fields.fail(key, f"at most {slots} points (n 2)", f"shape {values.shape}", "correct it or raise slots")
    absent = np.isnan(values)
    visible = ~absent.any(1)
    for at in np.flatnonzero(absent[:, 0] != absent[:, 1]):
        raise fields.fail(f"{key}.{at}", "both coordinates of a point, or neither", values[at].tolist())
    for at in np.flatnonzero(visible & ~is_near(values[:, 0], values[:, 1], size)):
        raise fields.fail(f"{key}.{at}", f"a point in or near the {size[1]}x{size[0]} image", values[at].tolist())
    rest = slots - len(values)
    xy = np.where(visible[:, None], values, 0).astype(np.float32)
    return np.pad(xy, ((0, rest), (0, 0))), np.pad(visible, (0, rest))


def points_box(xy: Float[np.ndarray, "n 2"], visible: Bool[np.ndarray, "n"], size: tuple[int, int]) -> Box:
    """The smallest box around the visible points; the whole image of ``size`` (h, w) where they span nothing."""
    if visible.any():
        (x1, y1), (x2, y2) = xy[visible].min(0).tolist(), xy[visible].max(0).tolist()
        if max(x2 - x1, y2 - y1) > 0:
            return x1, y1, x2, y2
    return 0.0, 0.0, float(size[1]), float(size[0])


def checked_box(fields: Fields, key: str, values: list[float], size: tuple[int, int], notes: list[str]) -> Box:
    """``[x1, y1, x2, y2]`` with some extent; swapped corners are put in order and noted (a repair).

    Raises:
        DataError: another number of values, a corner far outside the image of ``size`` (h, w), no extent.
    """
    if len(values) != 4 or not all(is_near(x, y, size) for x, y in (values[:2], values[2:])):
        raise fields.fail(key, f"[x1, y1, x2, y2] in or near the {size[1]}x{size[0]} image", values)
    (x1, x2), (y1, y2) = sorted(values[0::2]), sorted(values[1::2])
    if x2 <= x1 or y2 <= y1:
        raise fields.fail(key, "a box with width and height", values)
    if [x1, y1, x2, y2] != values:
        notes.append(f"{fields.file}: {fields.prefix}{key}: swapped corners {values} put in order")
    return x1, y1, x2, y2
