"""Dense correspondence as pictures: where each part of the source went, and the source laid over the target."""

from __future__ import annotations

import numpy as np
from PIL import Image

DIM = 0.35


def position_colours(xy_px: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A colour ``(… 3)`` uint8 for every place of an image of ``size = (h, w)``: hue turns with x, light with y.

    Places that are NaN are black.
    """
    u, v = np.nan_to_num(xy_px[..., 0] / size[1]), np.nan_to_num(xy_px[..., 1] / size[0])
    phase = 2 * np.pi * (0.85 * u[..., None] + np.array([0, 1 / 3, 2 / 3]))
    rgb = (0.5 + 0.5 * np.cos(phase)) * (0.45 + 0.55 * v[..., None]) + 0.25 * v[..., None]
    shown = np.where(np.isnan(xy_px[..., :1]), 0, np.clip(rgb, 0, 1))
    return (255 * shown).round().astype(np.uint8)


def sample_field(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A field ``(g g c)`` over the letterboxed frame, read at every pixel ``(h w c)`` of an image of ``size``.

    Bilinear between cells that hold a value; the nearest cell decides whether there is one.
    """
    grid, h, w = values.shape[0], *size
    longest = max(size)
    rows = (np.arange(h) + 0.5 + (longest - h) / 2) / longest * grid - 0.5
    columns = (np.arange(w) + 0.5 + (longest - w) / 2) / longest * grid - 0.5
    known = ~np.isnan(values[..., :1])
    filled, weight = _bilinear(np.where(known, values, 0), rows, columns), _bilinear(known * 1.0, rows, columns)
    y, x = np.clip(np.rint(rows), 0, grid - 1).astype(int), np.clip(np.rint(columns), 0, grid - 1).astype(int)
    return np.where(known[y][:, x], filled / np.maximum(weight, 1e-6), np.nan)


def draw_field(source: Image.Image, target: Image.Image, xy_px: np.ndarray) -> tuple[Image.Image, Image.Image]:
    """The source coloured by where it lies in the target, and the target in the colours of its own places.

    ``xy_px`` ``(g g 2)`` holds target places per cell of the source's frame.
    """
    trg_size = (target.height, target.width)
    found = sample_field(xy_px, (source.height, source.width))
    tinted = position_colours(found, trg_size)
    legend = position_colours(_own_places(trg_size), trg_size)
    return _blend(source, tinted, ~np.isnan(found[..., 0])), _blend(target, legend, np.ones(trg_size, bool))


def warp(
    source: Image.Image, target: Image.Image, src_xy_px: np.ndarray, mask: np.ndarray | None = None
) -> Image.Image:
    """The source's pixels where the target's places come from; the target, dimmed, where ``mask`` leaves it.

    ``src_xy_px`` ``(g g 2)`` holds source places per cell of the target's frame; ``mask`` is the source's ``(h w)``.
    """
    size = (target.height, target.width)
    places = sample_field(src_xy_px, size)
    known = ~np.isnan(places[..., 0])
    x = np.clip(np.nan_to_num(places[..., 0]), 0, source.width - 1).astype(int)
    y = np.clip(np.nan_to_num(places[..., 1]), 0, source.height - 1).astype(int)
    if mask is not None:
        known &= mask[y, x]
    rest = np.asarray(target.convert("RGB")) * DIM
    return Image.fromarray(np.where(known[..., None], np.asarray(source.convert("RGB"))[y, x], rest).astype(np.uint8))


def _own_places(size: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    return np.stack([x, y], -1)


def _blend(picture: Image.Image, tint: np.ndarray, inside: np.ndarray) -> Image.Image:
    grey = np.asarray(picture.convert("L").convert("RGB")).astype(float)
    mixed = np.where(inside[..., None], 0.4 * grey + 0.6 * tint, DIM * grey)
    return Image.fromarray(mixed.astype(np.uint8))


def _bilinear(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    grid = values.shape[0]
    y, x = np.clip(rows, 0, grid - 1), np.clip(columns, 0, grid - 1)
    y0, x0 = y.astype(int), x.astype(int)
    y1, x1 = np.minimum(y0 + 1, grid - 1), np.minimum(x0 + 1, grid - 1)
    fy, fx = (y - y0)[:, None, None], (x - x0)[None, :, None]
    top = values[y0][:, x0] * (1 - fx) + values[y0][:, x1] * fx
    bottom = values[y1][:, x0] * (1 - fx) + values[y1][:, x1] * fx
    return np.asarray(top * (1 - fy) + bottom * fy)
