"""Matched points of two pictures: numbered dots in the same colours, faint lines between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Real
from PIL import Image, ImageDraw

from geoalign.draw.canvas import LABEL_PX, Colour, colours, dot, ring, side_by_side, tags
from geoalign.draw.text import write

MOST_LABELS = 40
"""More points than this are drawn small and without numbers."""


NOT_VISIBLE = "not visible"
"""What the legend says of hollow dots."""


def draw_matches(
    source: Image.Image,
    target: Image.Image,
    src_xy_px: Real[np.ndarray, "n 2"],
    trg_xy_px: Real[np.ndarray, "n 2"],
    names: Sequence[str] | None = None,
    confidence: Float[np.ndarray, "n"] | None = None,
    visible: Bool[np.ndarray, "n"] | None = None,
) -> Image.Image:
    """Source left, target right; points in px of each picture, ``names`` number them by default.

    Matches are the paler the lower their ``confidence``, and hollow where they are not ``visible``.
    """
    canvas = side_by_side([source, target])
    draw = ImageDraw.Draw(canvas.page, "RGBA")
    count, few = len(src_xy_px), len(src_xy_px) <= MOST_LABELS
    labels = (names or [str(i) for i in range(count)]) if few else [""] * count
    sure, shown = _each(confidence, count, 1.0), _each(visible, count, True)
    ends = canvas.at(0, src_xy_px), canvas.at(1, trg_xy_px)
    rows = list(zip(*ends, colours(count), sure, shown, strict=True))
    for start, end, colour, how_sure, seen in rows:
        if seen:
            fill = (*colour, round((150 if few else 60) * how_sure))
            draw.line([*map(float, start), *map(float, end)], fill=fill, width=2 if few else 1)
    for start, end, colour, how_sure, seen in rows:
        dot(draw, start, colour, 5.0 if few else 3.0)
        _match(draw, end, colour, 5.0 if few else 3.0, how_sure, seen)
    tags(draw, np.concatenate(ends), [*labels, *labels], canvas.page.size)
    return canvas.page if all(shown) else _with_legend(canvas.page)


def draw_points(
    picture: Image.Image,
    xy_px: Real[np.ndarray, "n 2"],
    names: Sequence[str],
    height: int = 300,
    confidence: Float[np.ndarray, "n"] | None = None,
    visible: Bool[np.ndarray, "n"] | None = None,
) -> Image.Image:
    """One picture, ``height`` px high, with labelled points in its own px; paler and hollow as in draw_matches."""
    canvas, count = side_by_side([picture], height), len(xy_px)
    draw = ImageDraw.Draw(canvas.page)
    how = _each(confidence, count, 1.0), _each(visible, count, True)
    places = canvas.at(0, xy_px)
    for xy, colour, sure, seen in zip(places, colours(count), *how, strict=True):
        _match(draw, xy, colour, 5.0, sure, seen)
    tags(draw, places, names, canvas.page.size)
    return canvas.page


def _each(values: np.ndarray | None, count: int, default: Any) -> list[Any]:
    return [default] * count if values is None else values.tolist()


def _match(draw: ImageDraw.ImageDraw, xy: np.ndarray, colour: Colour, radius: float, sure: float, seen: bool) -> None:
    """A dot, mixed with white as far as it is not sure; a ring of its colour where the point is not visible."""
    red, green, blue = (round(255 - (255 - channel) * (0.25 + 0.75 * sure)) for channel in colour)
    if seen:
        dot(draw, xy, (red, green, blue), radius)
    else:
        ring(draw, xy, colour, radius)


def _with_legend(page: Image.Image) -> Image.Image:
    """The page with one line below it that says what a ring means."""
    longer = Image.new("RGB", (page.width, page.height + 22), "white")
    longer.paste(page, (0, 0))
    draw = ImageDraw.Draw(longer)
    ring(draw, np.array([12.0, page.height + 11.0]), (90, 90, 90))
    write(draw, (24, page.height + 11), NOT_VISIBLE, LABEL_PX, "lm")
    return longer
