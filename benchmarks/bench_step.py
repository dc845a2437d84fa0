"""A whole training step, refiner and losses and optimiser, beside four refiner passes per pair."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks import inputs
from benchmarks import transcription as plain
from benchmarks.timing import Comparison, Contender, compare, resident_mb, show
from geoalign.losses import Moment
from geoalign.refiner import Aggregation

ROWS = 4  # of a pair: plain, single, double, self


def run(repeats: int = 5, sizes: inputs.Sizes = inputs.PAPER, images: int = 8) -> list[Comparison]:
    """Cliques with flips, per row, against the transcription and against geoalign's own single pairs."""
    pairs = images * (images - 1)
    single, many = fast_step(2, sizes), fast_step(images, sizes)
    setting = f"{sizes.cells}x{sizes.cells} cells, {len(sizes.channels)} maps, dropout on the grid, AdamW"
    found = compare(
        slow_step(sizes),
        [
            Contender("training step, single pair", single, ROWS),
            Contender(f"training step, clique of {images}", many, ROWS * pairs, 10.0),
        ],
        unit="row",
        setting=setting,
        plain_units=ROWS,
        repeats=repeats,
    )
    against_own = replace(found[1], name=f"clique of {images} beside own single pairs", plain=found[0].fast)
    return [*found, against_own]


def slow_step(sizes: inputs.Sizes) -> Callable[[], None]:
    """A step as the reference takes it: one pair, each of its four views refined alone."""
    refiner, loss = inputs.refiner(sizes).train(), inputs.loss(sizes).train()
    maps, batch, optimizer = inputs.maps(4, sizes), inputs.single_pair(sizes), _optimizer(refiner)
    noise = loss.terms["dense"].label_noise

    def step() -> None:
        optimizer.zero_grad()
        views = [plain.refine(refiner, [m[i] for m in maps]) for i in range(4)]
        plain.total_loss(inputs.pair_rows(views, batch, noise, sizes.frame_px), loss, refiner.logit_scale).backward()
        optimizer.step()

    return step


def fast_step(images: int, sizes: inputs.Sizes) -> Callable[[], None]:
    """A step over a clique of images with flips (two images: a single pair, one direction)."""
    refiner, loss = inputs.refiner(sizes).train(), inputs.loss(sizes).train()
    maps, optimizer = inputs.maps(2 * images, sizes), _optimizer(refiner)
    batch = inputs.single_pair(sizes) if images == 2 else inputs.clique(images, sizes)

    def step() -> None:
        optimizer.zero_grad()
        loss(refiner.bank(maps, sizes.frame_px), batch, Moment(refiner.logit_scale)).mean.backward()
        optimizer.step()

    return step


def step_memory_gb(views: int = 8) -> float:
    """Peak resident memory of a fresh process that takes two training steps of ``views`` views, all included."""
    code = f"from benchmarks.bench_step import memory_of_two_steps; memory_of_two_steps({views // 2})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def memory_of_two_steps(images: int) -> None:
    """Print the process's peak in GB; called in a process of its own."""
    step = fast_step(images, inputs.PAPER)
    step()
    step()
    print(resident_mb(peak=True) / 1024)


def _optimizer(refiner: Aggregation) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in refiner.parameters() if p.requires_grad], lr=1e-4)


if __name__ == "__main__":
    show(run())
    print(f"peak memory of a process that trains on 8 views: {step_memory_gb():.2f} GB")
