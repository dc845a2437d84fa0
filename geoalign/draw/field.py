"""Dense correspondence as colours: where each part of the source went."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

DIM = 0.35
"""Brightness of what a mask or a field leaves out."""


def position_colours(xy_px: Float[np.ndarray, "*any 2"], size: tuple[int, int]) -> UInt8[np.ndarray, "*any 3"]:
    """A colour for every place, in px, of an image of ``size = (h, w)``: hue turns with x, light with y.

    Places that are NaN are black.
    """
    u, v = np.nan_to_num(xy_px[..., 0] / size[1]), np.nan_to_num(xy_px[..., 1] / size[0])
    phase = 2 * np.pi * (0.85 * u[..., None] + np.array([0, 1 / 3, 2 / 3]))
    rgb = (0.5 + 0.5 * np.cos(phase)) * (0.45 + 0.55 * v[..., None]) + 0.25 * v[..., None]
    shown = np.where(np.isnan(xy_px[..., :1]), 0, np.clip(rgb, 0, 1))
    return (255 * shown).round().astype(np.uint8)


def sample_field(
    values: Float[np.ndarray, "g g c"],
    size: tuple[int, int],
    box_px: tuple[float, float, float, float] | None = None,
) -> Float[np.ndarray, "h w c"]:
    """A field over the letterboxed frame, read at every pixel of an image of ``size = (h, w)``.

    Bilinear between cells that hold a value; the nearest cell decides whether there is one, else NaN. With ``box_px``
    (x1 y1 x2 y2 of that image) the pixels are those of its part, drawn as large as the image.
    """
    from scipy.ndimage import map_coordinates

    grid, h, w = values.shape[0], *size
    longest, (x1, y1, x2, y2) = max(size), box_px or (0.0, 0.0, float(w), float(h))
    rows = (y1 + (np.arange(h) + 0.5) * (y2 - y1) / h + (longest - h) / 2) / longest * grid - 0.5
    columns = (x1 + (np.arange(w) + 0.5) * (x2 - x1) / w + (longest - w) / 2) / longest * grid - 0.5
    given = ~np.isnan(values[..., :1])
    at = np.meshgrid(rows, columns, indexing="ij")
    layers = np.moveaxis(np.concatenate([np.where(given, values, 0), given], -1), -1, 0)
    *sums, weight = (map_coordinates(layer, at, order=1, mode="nearest") for layer in layers)
    y, x = np.clip(np.rint(rows), 0, grid - 1).astype(int), np.clip(np.rint(columns), 0, grid - 1).astype(int)
    return np.where(given[y][:, x], np.stack(sums, -1) / np.maximum(weight, 1e-6)[..., None], np.nan)


def draw_field(
    source: Image.Image, target: Image.Image, xy_px: Float[np.ndarray, "g g 2"]
) -> tuple[Image.Image, Image.Image]:
    """The source coloured by where it lies in the target, and the target in the colours of its own places.

    ``xy_px`` holds the place in the target, px, of every cell of the source's frame; NaN where there is none.
    """
    trg_size = (target.height, target.width)
    places = sample_field(xy_px, (source.height, source.width))
    y, x = np.mgrid[: target.height, : target.width] + 0.5
    tinted, legend = (position_colours(xy, trg_size) for xy in (places, np.stack([x, y], -1)))
    return _blend(source, tinted, ~np.isnan(places[..., 0])), _blend(target, legend, np.ones(trg_size, bool))


def _blend(picture: Image.Image, tint: np.ndarray, inside: np.ndarray) -> Image.Image:
    grey = np.asarray(picture.convert("L").convert("RGB")).astype(float)
    mixed = np.where(inside[..., None], 0.4 * grey + 0.6 * tint, DIM * grey)
    return Image.fromarray(mixed.astype(np.uint8))
