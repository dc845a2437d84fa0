"""What descriptors look like: principal components as colours, one point's similarity over the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class FeatureRow(NamedTuple):
    """One pair: frames ``(s s 3)``, components by name ``(2 h w 3)``, one point and its similarity ``(h w)``."""

    source: np.ndarray
    target: np.ndarray
    components: Mapping[str, np.ndarray]
    point_px: tuple[float, float]
    truth_px: tuple[float, float]
    similarity: np.ndarray


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
    from matplotlib.figure import Figure

    names = list(rows[0].components)
    wide = 3 + 2 * len(names)
    figure = Figure(figsize=(1.9 * wide, 2.1 * len(rows)), dpi=100)
    for line, row in zip(figure.subplots(len(rows), wide, squeeze=False), rows, strict=True):
        side = row.source.shape[0]
        _frame(line[0], row.source, row.point_px, "source")
        _frame(line[1], row.target, row.truth_px, "target, truth")
        _frame(line[2], row.target, row.truth_px, "similarity")
        line[2].imshow(row.similarity, extent=(0, side, side, 0), cmap="inferno", alpha=0.75)
        for at, name in enumerate(names):
            for end, label in enumerate(("source", "target")):
                axes = line[3 + 2 * at + end]
                axes.imshow(row.components[name][end], extent=(0, side, side, 0))
                axes.set_title(f"{name}: {label}", fontsize=8)
                axes.set_axis_off()
    figure.tight_layout(pad=0.4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _frame(axes: Axes, image: np.ndarray, point: tuple[float, float], title: str) -> None:
    axes.imshow(image, extent=(0, image.shape[1], image.shape[0], 0))
    axes.plot(*point, "o", markerfacecolor="none", markeredgecolor="#00e5ff", markersize=7, markeredgewidth=1.8)
    axes.set_title(title, fontsize=8)
    axes.set_axis_off()
