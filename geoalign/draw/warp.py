"""The source laid over the target: its pixels where a smooth field says that the target's places come from."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from geoalign.draw.field import DIM, sample_field

ROUNDS = 8
MEDIAN, SPREAD = 5, 1.0
"""Cells a side that a median is taken of, and a Gaussian's width in cells: single cells that matched elsewhere go."""


def warp(
    source: Image.Image,
    target: Image.Image,
    src_xy_px: Float[np.ndarray, "g g 2"],
    mask: Bool[np.ndarray, "h w"] | None = None,
    trg_mask: Bool[np.ndarray, "hh ww"] | None = None,
) -> Image.Image:
    """The source's pixels at the target's places; the target, dimmed, where either mask or the source leaves it.

    ``src_xy_px`` holds the place in the source, px, of every cell of the target's frame, NaN where there is none;
    ``mask`` is the source's, ``trg_mask`` the target's.
    """
    from scipy.ndimage import map_coordinates

    places = sample_field(smooth(src_xy_px), (target.height, target.width))
    x, y = places[..., 0], places[..., 1]
    inside = (x >= 0) & (x <= source.width) & (y >= 0) & (y <= source.height)
    if mask is not None:
        column, row = (np.clip(v, 0, n - 1).astype(int) for v, n in ((x, source.width), (y, source.height)))
        inside &= mask[row, column]
    if trg_mask is not None:
        inside &= trg_mask
    layers = np.moveaxis(np.asarray(source.convert("RGB"), np.float32), -1, 0)
    at = np.stack([y - 0.5, x - 0.5])
    pixels = np.stack([map_coordinates(layer, at, order=1, mode="nearest") for layer in layers], -1)
    rest = np.asarray(target.convert("RGB")) * DIM
    return Image.fromarray(np.where(inside[..., None], pixels, rest).round().astype(np.uint8))


def smooth(xy_px: Float[np.ndarray, "g g 2"]) -> Float[np.ndarray, "g g 2"]:
    """A field that has a place for every cell, without the jumps of single cells: an affine map and what is left of it.

    The affine map is fitted to the cells that have a place, those far from it counting little; around it the median of
    neighbours, then a Gaussian. Cells without a place take the nearest one's distance from the map.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter, median_filter

    given = ~np.isnan(xy_px[..., 0])
    if not given.any():
        return xy_px
    rows, columns = np.indices(given.shape)
    cells = np.stack([columns, rows, np.ones_like(rows)], -1).astype(float)
    straight = cells @ _affine(cells[given], xy_px[given].astype(float))
    nearest = distance_transform_edt(~given, return_distances=False, return_indices=True)
    rest = (xy_px - straight)[tuple(nearest)]
    rest = median_filter(rest, (MEDIAN, MEDIAN, 1), mode="nearest")
    return straight + gaussian_filter(rest, (SPREAD, SPREAD, 0), mode="nearest")


def _affine(cells: Float[np.ndarray, "n 3"], xy_px: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "3 2"]:
    """Least squares, each cell weighted by how near the last round's map came to it."""
    weight = np.ones(len(cells))
    for _ in range(ROUNDS):
        root = np.sqrt(weight)[:, None]
        fitted = np.linalg.lstsq(cells * root, xy_px * root, rcond=None)[0]
        error = np.linalg.norm(cells @ fitted - xy_px, axis=1)
        weight = 1 / (1 + (error / max(float(np.median(error)), 1e-6)) ** 2)
    return np.asarray(fitted)
