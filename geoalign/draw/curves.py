"""Training curves: losses per step and PCK per epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = tuple[Sequence[float], Sequence[float]]
MANY = 30
"""From so many points on a curve is drawn pale, and smoothed on top."""


def save_curves(
    plots: Mapping[str, Mapping[str, Curve]],
    path: Path,
    x_label: str = "step",
    x_ticks: Sequence[float] | None = None,
    levels: Mapping[str, float] | None = None,
) -> None:
    """One plot per name, one line per curve ``(x, y)``; plots without a point are left out; written as PNG.

    ``levels`` are drawn as dashed lines in the colour of the curve of their name: where it started from.
    """
    from matplotlib.figure import Figure

    drawn = {name: curves for name, curves in plots.items() if any(len(x) for x, _ in curves.values())}
    if not drawn:
        raise ValueError("there is nothing to plot: no curve has a point")
    figure = Figure(figsize=(5.5 * len(drawn), 3.8), dpi=110)
    for axes, (name, curves) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn.items(), strict=True):
        for label, curve in curves.items():
            if len(curve[0]):
                _draw(axes, label, curve, (levels or {}).get(label))
        axes.set(title=name, xlabel=x_label)
        if x_ticks is not None:
            axes.set_xticks(list(x_ticks))
            axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        dashed = any(label in curves for label in levels or {})
        axes.legend(fontsize=7, title="dashed: zero-shot" if dashed else None, title_fontsize=7)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def smoothed(values: Sequence[float]) -> list[float]:
    """The mean of every value and of those beside it, a tenth of the curve in all but five or more; fewer at its ends.

    >>> smoothed([0.0] * 20 + [40.0] + [0.0] * 19)[17:24]
    [0.0, 8.0, 8.0, 8.0, 8.0, 8.0, 0.0]
    """
    half = max(2, len(values) // 20)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    return ((sums[high] - sums[low]) / (high - low)).tolist()


def _draw(axes: Axes, label: str, curve: Curve, level: float | None) -> None:
    x, y = curve
    if len(x) >= MANY:
        (pale,) = axes.plot(x, y, linewidth=0.8, alpha=0.25)
        (line,) = axes.plot(x, smoothed(y), linewidth=1.6, color=pale.get_color(), label=label)
    else:
        (line,) = axes.plot(x, y, marker="o" if len(x) < 30 else "", markersize=3, linewidth=1.2, label=label)
    if level is not None:
        axes.axhline(level, color=line.get_color(), linestyle="--", linewidth=1.0)
