"""Two pictures side by side at one height, and marks on them, with Pillow alone."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real
from PIL import Image, ImageDraw

from geoalign.draw.tags import place_tags
from geoalign.draw.text import font

GAP, LABEL_PX = 12, 11
MARK_PX = 7.0
"""Half the side of what a dot covers."""
Colour = tuple[int, int, int]


class Canvas(NamedTuple):
    """A page with pictures on it; each ``place`` is (x, y, scale) of a picture."""

    page: Image.Image
    places: tuple[tuple[int, int, float], ...]

    def at(self, picture: int, xy_px: Real[np.ndarray, "*n 2"]) -> Real[np.ndarray, "*n 2"]:
        """Points of a picture, in px of the page."""
        x, y, scale = self.places[picture]
        return xy_px * scale + [x, y]


def side_by_side(pictures: list[Image.Image], height: int = 420, widest: int = 900) -> Canvas:
    """Pictures scaled to one height (none wider than ``widest`` px), left to right on white."""
    scales = [min(height / p.height, widest / p.width) for p in pictures]
    sizes = [(max(1, round(p.width * s)), max(1, round(p.height * s))) for p, s in zip(pictures, scales, strict=True)]
    page = Image.new("RGB", (sum(w for w, _ in sizes) + GAP * (len(sizes) - 1), max(h for _, h in sizes)), "white")
    places, left = [], 0
    for picture, size, scale in zip(pictures, sizes, scales, strict=True):
        page.paste(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS), (left, 0))
        places.append((left, 0, scale))
        left += size[0] + GAP
    return Canvas(page, tuple(places))


def colours(count: int) -> list[Colour]:
    """Distinct bright colours, the same for the same count."""
    hues = [(i / max(1, count), 0.45 + 0.15 * (i % 2)) for i in range(count)]
    rgb = [colorsys.hls_to_rgb(hue, light, 0.95) for hue, light in hues]
    return [(round(r * 255), round(g * 255), round(b * 255)) for r, g, b in rgb]


def dot(draw: ImageDraw.ImageDraw, xy_px: Float[np.ndarray, "2"], colour: Colour, radius: float = 5.0) -> None:
    """A ringed dot."""
    x, y = (float(v) for v in xy_px)
    draw.ellipse([x - radius - 1.5, y - radius - 1.5, x + radius + 1.5, y + radius + 1.5], fill="black")
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour, outline="white")


def ring(draw: ImageDraw.ImageDraw, xy_px: Float[np.ndarray, "2"], colour: Colour, radius: float = 5.0) -> None:
    """A hollow dot, seen on light and dark ground."""
    x, y = (float(v) for v in xy_px)
    for colour_of, width, r in (("white", 4, radius + 1), (colour, 2, radius)):
        draw.ellipse([x - r, y - r, x + r, y + r], outline=colour_of, width=width)


def tags(
    draw: ImageDraw.ImageDraw, xy_px: Real[np.ndarray, "n 2"], labels: Sequence[str], page: tuple[int, int]
) -> None:
    """White text on dark grounds beside points, each where it covers least; nothing for no text."""
    boxes = np.array([draw.textbbox((0, 0), label, font=font(LABEL_PX)) for label in labels], float).reshape(-1, 4)
    shown = np.array([bool(label) for label in labels])[:, None]
    corners = place_tags(xy_px, (boxes[:, 2:] - boxes[:, :2] + [4, 2]) * shown, MARK_PX, page)
    for label, (x, y), box in zip(labels, corners.tolist(), boxes.tolist(), strict=True):
        if label:
            draw.rectangle([x, y, x + box[2] - box[0] + 4, y + box[3] - box[1] + 2], fill="black")
            draw.text((x + 2 - box[0], y + 1 - box[1]), label, fill="white", font=font(LABEL_PX))
