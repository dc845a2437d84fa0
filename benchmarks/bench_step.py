"""A whole training step, refiner and losses and optimiser, beside four refiner passes per pair."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import torch

from benchmarks import inputs
from benchmarks import transcription as plain
from benchmarks.timing import Comparison, compare, show
from geoalign.refiner import Aggregation

ROWS = 4  # of a pair: plain, single, double, self


def run(repeats: int = 5, sizes: inputs.Sizes = inputs.PAPER, images: int = 8) -> list[Comparison]:
    """Cliques with flips, per row, against the transcription and against geoalign's own single pairs."""
    pairs = images * (images - 1)
    single, many = fast_step(2, sizes), fast_step(images, sizes)
    setting = f"{sizes.cells}x{sizes.cells} cells, {len(sizes.channels)} maps, dropout on the grid, AdamW"
    return [
        compare(
            f"training step, {name}",
            slow,
            many if units > 1 else single,
            unit="row",
            setting=setting,
            target=target,
            plain_units=ROWS,
            fast_units=ROWS * units,
            repeats=repeats,
        )
        for name, slow, units, target in (
            (f"clique of {images} against the transcription", slow_step(sizes), pairs, 10.0),
            (f"clique of {images} against single pairs", single, pairs, 10.0),
            ("single pair against the transcription", slow_step(sizes), 1, None),
        )
    ]


def slow_step(sizes: inputs.Sizes) -> Callable[[], None]:
    """A step as the reference takes it: one pair, each of its four views refined alone."""
    refiner, loss = inputs.refiner(sizes).train(), inputs.loss(sizes).train()
    maps, batch, optimizer = inputs.maps(4, sizes), inputs.single_pair(sizes), _optimizer(refiner)
    noise = loss.dense.label_noise if loss.dense else 0.0

    def step() -> None:
        optimizer.zero_grad()
        views = [plain.refine(refiner, [m[i] for m in maps]) for i in range(4)]
        plain.total_loss(inputs.pair_rows(views, batch, noise), loss, refiner.logit_scale).backward()
        optimizer.step()

    return step


def fast_step(images: int, sizes: inputs.Sizes) -> Callable[[], None]:
    """A step over a clique of images with flips (two images: a single pair, one direction)."""
    refiner, loss = inputs.refiner(sizes).train(), inputs.loss(sizes).train()
    maps, optimizer = inputs.maps(2 * images, sizes), _optimizer(refiner)
    batch = inputs.single_pair(sizes) if images == 2 else inputs.clique(images, sizes)

    def step() -> None:
        optimizer.zero_grad()
        loss(refiner(maps), batch, refiner.logit_scale).mean.backward()
        optimizer.step()

    return step


def step_memory_gb(views: int = 8) -> float:
    """Peak resident memory of a fresh process that takes two training steps of ``views`` views, all included."""
    code = f"from benchmarks.bench_step import memory_of_two_steps; memory_of_two_steps({views // 2})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def memory_of_two_steps(images: int) -> None:
    """Print the process's peak in GB; called in a process of its own."""
    import resource

    step = fast_step(images, inputs.PAPER)
    step(), step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def _optimizer(refiner: Aggregation) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in refiner.parameters() if p.requires_grad], lr=1e-4)


if __name__ == "__main__":
    show(run())
    print(f"peak memory of a process that trains on 8 views: {step_memory_gb():.2f} GB")
