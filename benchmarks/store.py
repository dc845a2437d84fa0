"""The feature store at the sizes of Stable Diffusion 1.5 and DINOv2-B: disk, reading, opening, int8 error.

    python benchmarks/store.py [--views 40] [--folder /tmp] [--cpu-time]

Random maps stand in for real ones where only their size counts. The plain transcription beside the store is one
``torch.save`` file per view in float32, read back with ``torch.load``: what a release without a store does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from geoalign.backbone.store import FeatureStore, Precision, dequantize, quantize, view_key

SHAPES = [(640, 60, 60), (1280, 30, 30), (1280, 15, 15), (768, 60, 60)]
ROUNDS = 7
CPU_TIME = False


def main() -> None:
    """Print every figure as a markdown row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, default=40)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--cpu-time", action="store_true", help="count CPU seconds; one thread only")
    arguments = parser.parse_args()
    globals()["CPU_TIME"] = arguments.cpu_time
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print("| what | figure |\n|---|---|")
        precisions: tuple[Precision, ...] = ("fp16", "bf16", "int8")
        for precision in precisions:
            disk_and_reading(Path(folder) / precision, precision, arguments.views)
        plain_files(Path(folder) / "plain", min(10, arguments.views))
        opening(Path(folder) / "open")
    int8_error()


def disk_and_reading(root: Path, precision: Precision, views: int) -> None:
    """Bytes per view, writing, checking, and reading in batches of four with one thread and with two."""
    keys = keys_of(views)
    torch.set_num_threads(1)
    store = FeatureStore(root, precision, fingerprint="b")
    maps = [torch.randn(shape) for shape in SHAPES]
    row(f"{precision}: written, 1 thread", views / timed(lambda: write(store, keys, maps)), "views/s")
    size = sum(path.stat().st_size for path in store.folder.iterdir())
    row(f"{precision}: disk per view", size / views / 1e6, "MB")
    gb = size / 1e9
    row(f"{precision}: checksums of all views", gb / best(store.verify), "GB/s")
    row(f"{precision}: first read of a view, checked", gb / timed(lambda: fresh_read(root, precision, keys)), "GB/s")
    quick = FeatureStore(root, precision, check="off", fingerprint="b")
    for threads in (1,) if CPU_TIME else (1, 2):
        torch.set_num_threads(threads)
        for dtype in (torch.float16, torch.float32):
            seconds = best(partial(read_all, quick, keys, dtype))
            what = f"{precision}: read as {str(dtype)[6:]}, {threads} thread(s)"
            row(what, gb / seconds, "GB/s of disk", views / seconds, "views/s")


def write(store: FeatureStore, keys: list[str], maps: list[Tensor]) -> None:
    """Every view, into the page cache."""
    for key in keys:
        store.add(key, maps, "category/2008_000000.jpg (upright)")


def fresh_read(root: Path, precision: Precision, keys: list[str]) -> None:
    """Reading in a process that has not seen the store."""
    read_all(FeatureStore(root, precision, fingerprint="b"), keys, torch.float16)


def read_all(store: FeatureStore, keys: list[str], dtype: torch.dtype) -> None:
    """Every view, in batches of four."""
    for i in range(0, len(keys), 4):
        store.read_many(keys[i : i + 4], dtype)


def plain_files(root: Path, views: int) -> None:
    """One float32 file per view."""
    root.mkdir()
    for i in range(views):
        torch.save([torch.randn(shape) for shape in SHAPES], root / f"{i}.pt")
    size = sum(path.stat().st_size for path in root.iterdir())
    row("plain files: disk per view", size / views / 1e6, "MB")
    seconds = best(lambda: [torch.load(root / f"{i}.pt", weights_only=True) for i in range(views)])
    row("plain files: read as float32, 1 thread", size / 1e9 / seconds, "GB/s of disk", views / seconds, "views/s")


def opening(root: Path, views: int = 3600) -> None:
    """Opening 3,600 views and asking which are missing; neither reads the maps, so these are small."""
    store = FeatureStore(root, fingerprint="b")
    keys = keys_of(views)
    write(store, keys, [torch.zeros(shape[0], 1, 1) for shape in SHAPES])
    seconds = best(lambda: FeatureStore(root, fingerprint="b").missing(keys))
    row(f"opening {views} views", seconds * 1000, "ms")


def int8_error() -> None:
    """Relative error of int8 (norm of the difference over norm), symmetric codes beside it."""
    generator = torch.Generator().manual_seed(0)
    for name, maps in {"random normal": [torch.randn(s, generator=generator) for s in SHAPES], **lite_maps()}.items():
        pairs = [(x, dequantize(*quantize(x)), symmetric(x), x.half().float()) for x in maps]
        ours, plain, half = (max(relative(pair[i], pair[0]) for pair in pairs) for i in (1, 2, 3))
        row(f"int8 error, {name}", 100 * ours, "%", 100 * plain, "% symmetric", 100 * half, "% fp16")


def lite_maps() -> dict[str, list[Tensor]]:
    """Maps of Lite on a ramp with noise, where its weights are installed."""
    try:
        from geoalign.backbone import Lite

        backbone = Lite([2, 4, 10, 15])
    except ImportError:
        return {}
    size = backbone.image_sizes[0]
    frame = torch.randint(0, 64, (1, 3, size, size), generator=torch.Generator().manual_seed(0))
    frame += torch.linspace(0, 191, size).long()[None, None, None]
    return {"Lite": [m[0].float() for m in backbone({size: frame.to(torch.uint8)})]}


def symmetric(x: Tensor) -> Tensor:
    """The plain 8-bit formula: one scale per channel, no offset."""
    scale = x.abs().amax((1, 2), keepdim=True).clamp(min=1e-12) / 127
    return (x / scale).round() * scale


def relative(got: Tensor, want: Tensor) -> float:
    """Norm of the difference over the norm."""
    return float((got - want).norm() / want.norm())


def keys_of(views: int) -> list[str]:
    """Distinct keys."""
    return [view_key("b", str(i), "upright") for i in range(views)]


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    start = clock()
    work()
    return clock() - start


def best(work: Callable[[], object]) -> float:
    """Least seconds of several rounds: other programs only ever add."""
    return min(timed(work) for _ in range(ROUNDS))


def clock() -> float:
    """Wall clock, or with one thread on a machine that others use too, this process's own CPU time."""
    return time.process_time() if CPU_TIME else time.perf_counter()


def row(what: str, *figures: float | str) -> None:
    """A line of the table: alternating figures and units."""
    print(f"| {what} |", " ".join(f if isinstance(f, str) else f"{f:.3g}" for f in figures), "|", flush=True)


if __name__ == "__main__":
    main()
