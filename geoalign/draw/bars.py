"""Bars and lines over categories; a value of None is left out, never drawn as zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#4878a8", "#e0803c", "#6aa84f", "#a64d79", "#7f7f7f")

Values = Mapping[str, Sequence[float | None]]
Draw = Callable[["Axes"], None]


def grouped_bars(axes: Axes, names: Sequence[str], series: Values, label: str) -> None:
    """One bar per series beside each other at every name."""
    width = 0.8 / len(series)
    for row, (name, values) in enumerate(series.items()):
        drawn = [(at, value) for at, value in enumerate(values) if value is not None]
        places = [at - 0.4 + (row + 0.5) * width for at, _ in drawn]
        axes.bar(places, [v for _, v in drawn], width * 0.92, label=name, color=COLOURS[row % len(COLOURS)])
    _names(axes, names)
    axes.set_ylabel(label)
    axes.legend(fontsize=8, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)


def stacked_bars(axes: Axes, names: Sequence[str], series: Values, colours: Mapping[str, str], label: str) -> None:
    """The series on top of each other at every name, in their order."""
    base = [0.0] * len(names)
    for name, values in series.items():
        heights = [value or 0.0 for value in values]
        axes.bar(range(len(names)), heights, 0.75, bottom=base, label=name, color=colours[name])
        base = [low + height for low, height in zip(base, heights, strict=True)]
    _names(axes, names)
    axes.set_ylabel(label)
    axes.legend(fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)


def lines(axes: Axes, x: Sequence[int | float], series: Values, bold: str, x_label: str, y_label: str) -> None:
    """A thin line per series through the values that exist, the ``bold`` one on top."""
    for name, values in series.items():
        points = [(at, value) for at, value in zip(x, values, strict=True) if value is not None]
        if points:
            strong = name == bold
            style = {"linewidth": 2.6, "color": "black"} if strong else {"linewidth": 0.9, "alpha": 0.75}
            axes.plot(*zip(*points, strict=True), marker="o", markersize=5 if strong else 3, label=name, **style)
    axes.set(xlabel=x_label, ylabel=y_label, xticks=list(x))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=6, ncols=1 + len(series) // 10)


def save_grid(rows: Sequence[Sequence[Draw]], titles: Sequence[str], path: Path, size: tuple[float, float]) -> None:
    """A picture with one row of plots per title; ``size`` in inches per plot; written as PNG."""
    from matplotlib.figure import Figure

    columns = max(len(row) for row in rows)
    figure = Figure(figsize=(size[0] * columns, size[1] * len(rows)), dpi=110, layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False, sharey="col")  # so that rows can be compared
    for row, title, axes in zip(rows, titles, grid, strict=True):
        for draw, place in zip(row, axes, strict=True):
            draw(place)
        axes[0].set_title(title, fontsize=10, loc="left", pad=26)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _names(axes: Axes, names: Sequence[str]) -> None:
    axes.set_xticks(range(len(names)), names)
    if len(names) > 6:
        axes.tick_params("x", rotation=60)
        for text in axes.get_xticklabels():
            text.set(ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
