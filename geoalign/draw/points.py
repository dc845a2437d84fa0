"""Matched points of two pictures: numbered dots in the same colours, faint lines between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Real
from PIL import Image, ImageDraw

from geoalign.draw.canvas import colours, dot, side_by_side

MOST_LABELS = 40
"""More points than this are drawn small and without numbers."""


def draw_matches(
    source: Image.Image,
    target: Image.Image,
    src_xy_px: Real[np.ndarray, "n 2"],
    trg_xy_px: Real[np.ndarray, "n 2"],
    names: Sequence[str] | None = None,
) -> Image.Image:
    """Source left, target right; points in px of each picture, ``names`` number them by default."""
    canvas = side_by_side([source, target])
    draw = ImageDraw.Draw(canvas.page, "RGBA")
    few = len(src_xy_px) <= MOST_LABELS
    labels = (names or [str(i) for i in range(len(src_xy_px))]) if few else [""] * len(src_xy_px)
    rows = list(zip(canvas.at(0, src_xy_px), canvas.at(1, trg_xy_px), colours(len(src_xy_px)), labels, strict=True))
    for start, end, colour, _ in rows:
        draw.line([*map(float, start), *map(float, end)], fill=(*colour, 150 if few else 60), width=2 if few else 1)
    for start, end, colour, label in rows:
        dot(draw, start, colour, label, 5.0 if few else 3.0)
        dot(draw, end, colour, label, 5.0 if few else 3.0)
    return canvas.page


def draw_points(
    picture: Image.Image, xy_px: Real[np.ndarray, "n 2"], names: Sequence[str], height: int = 300
) -> Image.Image:
    """One picture, ``height`` px high, with labelled points in its own px."""
    canvas = side_by_side([picture], height)
    draw = ImageDraw.Draw(canvas.page)
    for xy, colour, name in zip(canvas.at(0, xy_px), colours(len(xy_px)), names, strict=True):
        dot(draw, xy, colour, name)
    return canvas.page
