"""The part of a picture that the page shows: whole, or closer around a point."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real
from PIL import Image

from geoalign.apps.inputs import BoxPx


class View(NamedTuple):
    """The part's corner in px of the picture, and px on the page per px of it, by axis."""

    corner_px: tuple[float, float]
    scale: tuple[float, float]
    size: tuple[int, int]  # (width, height) on the page

    def shown(self, xy_px: Real[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Places of the picture, in px on the page."""
        return (np.asarray(xy_px, float) - self.corner_px) * self.scale

    def px(self, shown_px: Real[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Places on the page, in px of the picture."""
        return np.asarray(shown_px, float) / self.scale + self.corner_px

    def shown_box(self, box_px: BoxPx) -> BoxPx:
        """A box of the picture, in px on the page."""
        (x1, y1), (x2, y2) = self.shown(np.reshape(box_px, (2, 2))).tolist()
        return x1, y1, x2, y2

    @property
    def box_px(self) -> BoxPx:
        """The part, as x1 y1 x2 y2 in px of the picture."""
        (x, y), (w, h) = self.corner_px, np.divide(self.size, self.scale).tolist()
        return x, y, x + w, y + h


def view(
    picture: Image.Image, small: Image.Image, zoom: float = 1, centre_px: tuple[float, float] | None = None
) -> View:
    """``zoom`` times closer than ``small``, the whole picture as the page shows it, around a point where it can be.

    >>> view(Image.new("RGB", (100, 50)), Image.new("RGB", (640, 320)), 2, (90, 25)).box_px
    (50.0, 12.5, 100.0, 37.5)
    """
    size = np.array(picture.size, float)
    middle = size / 2 if centre_px is None else np.asarray(centre_px, float)
    corner = np.clip(middle - size / zoom / 2, 0, size - size / zoom)
    scale = np.array(small.size) / size * zoom  # by axis: pictures of a few pixels are not scaled alike
    return View((float(corner[0]), float(corner[1])), (float(scale[0]), float(scale[1])), small.size)


def part(picture: Image.Image, small: Image.Image, view: View) -> Image.Image:
    """The picture's part, as large as ``small``."""
    if np.allclose(view.box_px, (0, 0, *picture.size)):
        return small
    return picture.resize(view.size, Image.Resampling.BICUBIC, box=view.box_px, reducing_gap=3.0)
