"""Matches drawn on image pairs: correct green, wrong red, left/right confusions marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"correct": "#19a51b", "swapped": "#ff8c00", "near": "#d62728", "elsewhere": "#d62728"}
LABELS = {"correct": "correct", "swapped": "left/right or same-part confusion", "near": "wrong"}


class Panel(NamedTuple):
    """One drawn pair: frames ``(s s 3)`` uint8, points in px of the frame, a verdict per point."""

    source: np.ndarray
    target: np.ndarray
    src_xy_px: np.ndarray  # (n 2)
    predicted_px: np.ndarray  # (n 2)
    true_px: np.ndarray  # (n 2)
    verdicts: Sequence[str]
    title: str = ""


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Source left, target right; a line per match, a ring at the truth of every miss, a cross at confusions."""
    side = panel.source.shape[1]
    axes.imshow(np.concatenate([panel.source, panel.target], axis=1))
    shift = np.array([side, 0])
    rows = zip(panel.src_xy_px, panel.predicted_px + shift, panel.true_px + shift, panel.verdicts, strict=True)
    for start, end, truth, verdict in rows:
        colour = COLOURS[verdict]
        axes.plot(*np.stack([start, end]).T, color=colour, linewidth=1.0, alpha=0.85)
        axes.plot(*start, "o", color=colour, markersize=3)
        axes.plot(*end, "X" if verdict == "swapped" else "o", color=colour, markersize=6 if verdict == "swapped" else 3)
        if verdict != "correct":
            axes.plot(*truth, "o", markerfacecolor="none", markeredgecolor="white", markersize=6, markeredgewidth=1.2)
    axes.set_xlim(0, 2 * side)
    axes.set_ylim(side, 0)
    axes.set_title(panel.title, fontsize=8)
    axes.set_axis_off()


def save_panels(columns: Mapping[str, Sequence[Panel]], path: Path) -> None:
    """One column per name, one row per pair, a legend below; written as PNG."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    rows = max(len(panels) for panels in columns.values())
    figure = Figure(figsize=(5.2 * len(columns), 2.75 * rows + 0.7), dpi=110)
    grid = figure.subplots(rows, len(columns), squeeze=False)
    for column, (name, panels) in enumerate(columns.items()):
        for row, panel in enumerate(panels):
            draw_panel(grid[row][column], panel)
        grid[0][column].set_title(f"{name}\n{panels[0].title}", fontsize=9)
    handles = [
        Line2D([], [], color=COLOURS[v], marker="X" if v == "swapped" else "o", label=t) for v, t in LABELS.items()
    ]
    handles.append(
        Line2D([], [], color="grey", marker="o", markerfacecolor="none", linewidth=0, label="truth of a miss")
    )
    figure.legend(handles=handles, loc="lower center", ncols=4, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.35 / (2.75 * rows + 0.7), 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
