"""Training curves: losses per step and PCK per epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

Curve = tuple[Sequence[float], Sequence[float]]


def save_curves(
    plots: Mapping[str, Mapping[str, Curve]], path: Path, x_label: str = "step", x_ticks: Sequence[float] | None = None
) -> None:
    """One plot per name, one line per curve ``(x, y)``; plots without a point are left out; written as PNG."""
    from matplotlib.figure import Figure

    drawn = {name: curves for name, curves in plots.items() if any(len(x) for x, _ in curves.values())}
    if not drawn:
        raise ValueError("there is nothing to plot: no curve has a point")
    figure = Figure(figsize=(5.5 * len(drawn), 3.8), dpi=110)
    for axes, (name, curves) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn.items(), strict=True):
        for label, (x, y) in curves.items():
            if len(x):
                axes.plot(x, y, marker="o" if len(x) < 30 else "", markersize=3, linewidth=1.2, label=label)
        axes.set(title=name, xlabel=x_label)
        if x_ticks is not None:
            axes.set_xticks(list(x_ticks))
            axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
