"""The hot paths on an accelerator, each beside its physical floor: bytes over bandwidth, operations over matrix rate.

``python -m benchmarks.accelerator`` on a machine with CUDA prints one JSON object; ``--device cpu --small`` shows
that it runs. Times are medians between events on the device's own clock.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import inputs
from benchmarks.timing import machine
from geoalign.bank import PlainBank
from geoalign.losses import Moment
from geoalign.matching import Matcher, transfer
from geoalign.matching.pose import mutual_distance, pose_distances
from geoalign.types import PairBatch

EPOCH_PAIRS, EPOCHS = 53_340, 2
"""SPair-71k's training pairs, and the paper's epochs over them."""
TRAINING_VIEWS = 2 * 900
"""About half of its images, upright and flipped: what a preloaded store holds."""


class Bench:
    """One device, one size, and its measured matrix rate and bandwidth."""

    def __init__(self, device: str, small: bool, repeats: int = 10) -> None:
        self.device, self.repeats = torch.device(device), repeats
        tiny = replace(inputs.PAPER, cells=8, channels=(12, 32), map_cells=(8, 4), width=128)
        self.sizes, self.images = (tiny, 3) if small else (inputs.PAPER, 8)
        self.stored = 32 if small else TRAINING_VIEWS
        side = 256 if small else 8192
        self.rate = {
            name: 2 * side**3 / self.seconds(_product(side, dtype, self.device))
            for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32))
        }
        source = torch.empty(2**20 if small else 2**30, dtype=torch.uint8, device=self.device)
        self.bandwidth = 2 * len(source) / self.seconds(source.clone)

    def seconds(self, side: Callable[[], object], repeats: int | None = None) -> float:
        """Median after three unmeasured runs, by events where the device has them."""
        for _ in range(3):
            side()
        return median(self._clock(side) for _ in range(repeats or self.repeats))

    def _clock(self, side: Callable[[], object]) -> float:
        if self.device.type != "cuda":
            start = time.perf_counter()
            side()
            return time.perf_counter() - start
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        side()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1e3

    def beside_floor(self, side: Callable[[], object], touched: float, dtype: str = "fp32") -> dict[str, float]:
        """Seconds, operations, and the floor: the larger of operations over rate and bytes over bandwidth."""
        return self.priced(side, touched, counted(side), dtype)

    def priced(self, side: Callable[[], object], touched: float, operations: float, dtype: str) -> dict[str, float]:
        """:meth:`beside_floor` with operations that are known already."""
        floor, took = max(operations / self.rate[dtype], touched / self.bandwidth), self.seconds(side)
        return {"seconds": took, "operations": operations, "bytes": touched, "floor_s": floor, "share": floor / took}

    def batch(self) -> PairBatch:
        """A clique with flips on the device."""
        return self.moved(inputs.clique(self.images, self.sizes))

    def moved(self, batch: Any) -> Any:
        """A batch's tensors on the device."""
        return {key: value.to(self.device) if isinstance(value, Tensor) else value for key, value in batch.items()}


def counted(side: Callable[[], object]) -> float:
    """Operations of one run; products written into given memory (a few per cent of a step) are not seen."""
    with FlopCounterMode(display=False) as counter:
        side()
    return float(counter.get_total_flops())


def matching(bench: Bench) -> dict[str, Any]:
    """Transfer of a clique's keypoints and both distances; a transfer reads each view of the bank twice."""
    bank, batch = inputs.bank(2 * bench.images, bench.sizes).to(bench.device), bench.batch()
    masks = inputs.blob_masks(2 * bench.images).to(bench.device)
    matcher = Matcher(frame_px=bench.sizes.frame_px)
    plain = PlainBank(bank, bench.sizes.frame_px)
    given = (plain, batch["src"], batch["trg"], batch["src_xy_px"], matcher, batch["visible"])
    poses, view = torch.tensor([[0, 1]], device=bench.device), 4.0 * bank[0].numel()
    with torch.no_grad():
        return {
            "transfer": bench.beside_floor(lambda: transfer(*given), 2 * len(bank) * view),
            "masked": bench.beside_floor(lambda: pose_distances(plain, poses, poses[:, 0] + 2, masks), 3 * view),
            "mutual": bench.beside_floor(lambda: mutual_distance(bank[0], bank[1]), 2 * view),
        }


def training(bench: Bench) -> dict[str, Any]:
    """Rows per second of the training loop from a preloaded store, by precision of the store and of the arithmetic."""
    found: dict[str, Any] = {}
    for stored in ("bf16", "int8"):
        store = Preloaded(bench, stored)
        cases = [("fp32", False), ("bf16", False)] + [("bf16", True)] * (bench.device.type == "cuda")
        for precision, compiled in cases:
            name = f"store {stored}, {precision}{', compiled' if compiled else ''}"
            found[name] = _loop(bench, store, precision, compiled)
        del store
    return found


class Preloaded:
    """Every training view's maps on the device, in bfloat16 or as bytes with a scale per channel."""

    def __init__(self, bench: Bench, stored: str) -> None:
        shapes = zip(bench.sizes.channels, bench.sizes.map_cells, strict=True)
        dtype = torch.bfloat16 if stored == "bf16" else torch.int8
        self.maps = [torch.ones(bench.stored, c, s, s, dtype=dtype, device=bench.device) for c, s in shapes]
        for one in self.maps:
            one.copy_(torch.randint(-99, 99, one.shape[1:], device=bench.device).to(dtype))
        self.scale = 1.0 if stored == "bf16" else 0.02
        self.bytes = sum(m[0].numel() * m.element_size() for m in self.maps)

    def read(self, views: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Maps of some views, widened."""
        return tuple(m[views].to(dtype) * self.scale for m in self.maps)


def _loop(bench: Bench, store: Preloaded, precision: str, compiled: bool) -> dict[str, Any]:
    refiner: nn.Module = inputs.refiner(bench.sizes).to(bench.device).train()
    scale = refiner.logit_scale
    optimizer = torch.optim.AdamW([p for p in refiner.parameters() if p.requires_grad], lr=1e-4)
    loss, batch = inputs.loss(bench.sizes).to(bench.device).train(), bench.batch()
    refine: Callable[[tuple[Tensor, ...]], Tensor] = refiner
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32

    def step() -> None:
        views = torch.randint(bench.stored, (2 * bench.images,), device=bench.device)
        optimizer.zero_grad(set_to_none=True)
        with _precision(bench.device, precision):
            bank = refine(store.read(views, dtype))
        loss(PlainBank(bank.float(), bench.sizes.frame_px), batch, Moment(scale)).mean.backward()
        optimizer.step()

    views = 2 * bench.images
    bank_bytes = 4.0 * views * bench.sizes.width * bench.sizes.cells**2
    operations = counted(step)
    if compiled:
        refine = torch.compile(refiner)
    found = bench.priced(step, views * store.bytes + 4 * bank_bytes, operations, precision)
    pairs = bench.images * (bench.images - 1)
    steps = EPOCHS * EPOCH_PAIRS / pairs
    return {
        **found,
        "rows_per_s": 4 * pairs / found["seconds"],
        "two_epochs_minutes": steps * found["seconds"] / 60,
        "store_gb": store.bytes * bench.stored / 1e9,
    }


@contextlib.contextmanager
def _precision(device: torch.device, precision: str) -> Iterator[None]:
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        yield


def _product(side: int, dtype: torch.dtype, device: torch.device) -> Callable[[], Tensor]:
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return lambda: a @ b


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accelerator")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args(arguments)
    bench = Bench(options.device, options.small, options.repeats)
    name = torch.cuda.get_device_name() if bench.device.type == "cuda" else machine()["processor"]
    found = {
        "device": name,
        "torch": torch.__version__,
        "matrix_rate_tflops": {key: value / 1e12 for key, value in bench.rate.items()},
        "bandwidth_gb_s": bench.bandwidth / 1e9,
        "matching": matching(bench),
        "training": training(bench),
    }
    print(json.dumps(found, indent=1))
    return found


if __name__ == "__main__":
    main()
