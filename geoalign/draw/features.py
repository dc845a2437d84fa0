"""What descriptors look like: principal components as colours, one point's similarity over the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from geoalign.draw.heatmap import draw_heatmap
from geoalign.draw.text import write

SIDE, GAP, LINE = 190, 6, 22
"""Px of a picture's side, between pictures, and of the titles' line."""


class FeatureRow(NamedTuple):
    """One pair: frames, components of source and target by name, one point (px of the frame) and its similarity."""

    source: UInt8[np.ndarray, "s s 3"]
    target: UInt8[np.ndarray, "s s 3"]
    components: Mapping[str, Float[np.ndarray, "2 h w 3"]]
    point_px: tuple[float, float]
    truth_px: tuple[float, float]
    similarity: Float[np.ndarray, "h w"]


def principal_colours(bank: Float[Tensor, "u c h w"]) -> Float[Tensor, "u h w 3"]:
    """The first three principal components over all cells of all views, each stretched to [0, 1].

    Deterministic: the sign is such that the largest loading is positive.
    """
    cells = bank.float().permute(0, 2, 3, 1).flatten(0, 2)
    cells = cells - cells.mean(0)
    _, axes = torch.linalg.eigh(cells.T @ cells)
    axes = axes[:, -3:].flip(-1)
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    colours = cells @ axes
    low, high = colours.amin(0), colours.amax(0)
    return ((colours - low) / (high - low).clamp(min=1e-12)).unflatten(0, (len(bank), *bank.shape[-2:]))


def save_features(rows: Sequence[FeatureRow], path: Path) -> None:
    """A line per pair: both frames with the point and its truth, its similarity, then the components; as PNG."""
    names = list(rows[0].components)
    titles = ["source", "target, truth", "similarity", *(f"{n}: {end}" for n in names for end in ("source", "target"))]
    page = Image.new("RGB", (GAP + len(titles) * (SIDE + GAP), LINE + len(rows) * (SIDE + GAP)), "white")
    draw = ImageDraw.Draw(page)
    for at, title in enumerate(titles):
        write(draw, (GAP + at * (SIDE + GAP) + SIDE / 2, LINE / 2), title, 12)
    for line, row in enumerate(rows):
        for at, tile in enumerate(_tiles(row, names)):
            page.paste(tile, (GAP + at * (SIDE + GAP), LINE + line * (SIDE + GAP)))
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path)


def _tiles(row: FeatureRow, names: Sequence[str]) -> list[Image.Image]:
    """A row's pictures, all of one size."""
    source, target = (_resized(frame, Image.Resampling.BICUBIC) for frame in (row.source, row.target))
    similar = draw_heatmap(target, row.similarity, strength=0.8)
    scale = SIDE / row.source.shape[0]
    marked = [_ringed(source, row.point_px, scale), *(_ringed(x, row.truth_px, scale) for x in (target, similar))]
    maps = [(row.components[name][end] * 255).round().astype(np.uint8) for name in names for end in (0, 1)]
    return [*marked, *(_resized(one, Image.Resampling.NEAREST) for one in maps)]


def _resized(picture: np.ndarray, how: Image.Resampling) -> Image.Image:
    return Image.fromarray(picture).resize((SIDE, SIDE), how)


def _ringed(picture: Image.Image, point_px: tuple[float, float], scale: float) -> Image.Image:
    ringed = picture.copy()
    x, y = point_px[0] * scale, point_px[1] * scale
    for radius, colour in ((8, "black"), (7, "#00e5ff")):
        ImageDraw.Draw(ringed).ellipse([x - radius, y - radius, x + radius, y + radius], outline=colour, width=2)
    return ringed
