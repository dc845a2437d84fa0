"""How time and memory grow with pairs per view, cells and keypoints; draws ``docs/figures/scaling_*.png``.

``python -m benchmarks.scaling`` measures, writes ``benchmarks/scaling.json`` and draws.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks import inputs
from benchmarks import transcription as plain
from benchmarks.timing import Side, machine, peak_mb, typical
from geoalign.bank import PlainBank
from geoalign.matching import Matcher, transfer

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
RESULTS = Path(__file__).with_name("scaling.json")
REPEATS = 3


class Measured(NamedTuple):
    """Seconds and MB at each value of what grows."""

    values: list[float]
    fast_s: list[float]
    plain_s: list[float]
    fast_mb: list[float]
    plain_mb: list[float]


@torch.no_grad()
def pairs_per_view(views: int = 8, pairs: Sequence[int] = (4, 8, 16, 32, 64, 128)) -> Measured:
    """Refining and matching a bank of ``views`` under more and more rows; the reference refines both ends of each."""
    refiner, maps, matcher = inputs.refiner().eval(), inputs.maps(views), Matcher()
    generator = torch.Generator().manual_seed(0)
    ends = torch.randint(views, (2, max(pairs)), generator=generator)
    xy_px = torch.rand(max(pairs), 15, 2, generator=generator) * 840

    def fast(count: int) -> Tensor:
        return transfer(refiner.bank(maps), ends[0, :count], ends[1, :count], xy_px[:count], matcher).xy_px

    def slow() -> Tensor:
        source, target = (plain.refine(refiner, [m[int(end)] for m in maps]) for end in ends[:, 0])
        return plain.transfer(source, target, xy_px[0], matcher)[0]

    one = typical(slow, REPEATS)
    sides = [partial(fast, n) for n in pairs]
    slow_mb = [peak_mb(slow)] * len(pairs)  # one pair at a time: always the same
    return Measured([2 * n / views for n in pairs], _seconds(sides), [n * one for n in pairs], _peaks(sides), slow_mb)


@torch.no_grad()
def cells(sides: Sequence[int] = (30, 45, 60, 90, 120), pairs: int = 8) -> Measured:
    """Transfer of 15 keypoints per pair on finer and finer grids, per pair."""

    def both(side: int) -> tuple[Side, Side]:
        bank = inputs.bank(4, replace(inputs.PAPER, cells=side))
        return _transfers(bank, 15, pairs)

    return _per_pair([float(s) for s in sides], [partial(both, s) for s in sides], pairs)


@torch.no_grad()
def keypoints(counts: Sequence[int] = (5, 10, 20, 40, 80), pairs: int = 8) -> Measured:
    """Transfer of more and more keypoints per pair at 60x60 cells, per pair."""
    bank = inputs.bank(4)
    return _per_pair([float(n) for n in counts], [partial(_transfers, bank, n, pairs) for n in counts], pairs)


def _transfers(bank: Tensor, count: int, pairs: int) -> tuple[Side, Side]:
    matcher, generator = Matcher(), torch.Generator().manual_seed(0)
    src, trg = torch.randint(len(bank), (2, pairs), generator=generator)
    xy_px = torch.rand(pairs, count, 2, generator=generator) * 840
    return (
        lambda: transfer(PlainBank(bank), src, trg, xy_px, matcher),
        lambda: plain.transfer(bank[src[0]], bank[trg[0]], xy_px[0], matcher),
    )


def _per_pair(values: list[float], make: Sequence[Callable[[], tuple[Side, Side]]], pairs: int) -> Measured:
    measured = Measured(values, [], [], [], [])
    for sides in make:
        fast, slow = sides()
        measured.fast_mb.append(peak_mb(fast))
        measured.plain_mb.append(peak_mb(slow))
        measured.fast_s.append(typical(fast, REPEATS) / pairs)
        measured.plain_s.append(typical(slow, REPEATS))
    return measured


def _seconds(sides: Sequence[Side]) -> list[float]:
    return [typical(side, REPEATS) for side in sides]


def _peaks(sides: Sequence[Side]) -> list[float]:
    return [peak_mb(side) for side in sides]


TITLES = {
    "pairs_per_view": (
        "refining and matching pairs of 8 views (transcription: one pair, times pairs)",
        "rows that meet a view",
    ),
    "cells": ("keypoint transfer, per pair", "cells a side"),
    "keypoints": ("keypoint transfer, per pair", "keypoints of a pair"),
}


def draw(results: dict[str, Any], folder: Path = FIGURES) -> list[Path]:
    """One picture per axis: time left, memory right, both logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, (title, label) in TITLES.items():
        measured = Measured(**results[name])
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
        for axis, fast, slow, unit in (
            (left, measured.fast_s, measured.plain_s, "seconds"),
            (right, measured.fast_mb, measured.plain_mb, "peak MB"),
        ):
            axis.plot(measured.values, slow, "o--", color="#b0483a", label="transcription")
            axis.plot(measured.values, fast, "o-", color="#2f6db5", label="geoalign")
            axis.set(xscale="log", xlabel=label, ylabel=unit)
            if max(fast + slow) > 60 * min(fast + slow):
                axis.set_yscale("log")
            else:
                axis.set_ylim(0)
            axis.set_xticks(measured.values, [f"{v:g}" for v in measured.values])
            axis.minorticks_off()
            axis.grid(alpha=0.3)
        left.legend(frameon=False)
        figure.suptitle(title)
        paths.append(folder / f"scaling_{name}.png")
        figure.savefig(paths[-1], dpi=130)
        plt.close(figure)
    return paths


def measure() -> dict[str, Any]:
    """All three axes, as plain data."""
    found = {"pairs_per_view": pairs_per_view(), "cells": cells(), "keypoints": keypoints()}
    return {"machine": machine(), **{name: m._asdict() for name, m in found.items()}}


def main() -> None:
    """Measure, write, draw."""
    results = measure()
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    for path in draw(results):
        print(path)


if __name__ == "__main__":
    main()
