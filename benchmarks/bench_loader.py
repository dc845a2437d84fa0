"""Decoding and letterboxing: images per second and core, and what quicker ways would change in the pixels."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.timing import describe, machine
from geoalign.data.batch.views import PixelLoader, ViewRef
from geoalign.data.records import ImageRecord
from geoalign.geometry import FRAME_PX, letterbox, letterbox_placement
from geoalign.markdown import markdown_table

SIZES = ((375, 500), (600, 800), (1080, 1920), (3000, 4000))
"""``(h, w)``: SPair-71k's usual size, then photographs of growing size."""
TARGET = 60.0


def run(repeats: int = 7, side: int = FRAME_PX) -> list[dict[str, Any]]:
    """One record per image size: rates on one thread, and the greatest difference of each quicker way."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return [_record(Path(folder), size, side, repeats) for size in SIZES]
    finally:
        torch.set_num_threads(threads)


def _record(folder: Path, size: tuple[int, int], side: int, repeats: int) -> dict[str, Any]:
    path = folder / f"{size[0]}x{size[1]}.jpg"
    photograph(size).save(path, quality=92)
    ref, loader = ViewRef(_annotated(path, size)), PixelLoader([side])
    exact = exact_way(path, side).astype(int)
    off = {name: np.abs(way(path, side).astype(int) - exact) for name, way in WAYS.items()}
    return {
        "size": f"{size[0]}x{size[1]}",
        "loader_per_s": 1 / _cpu_s(lambda: loader([ref]), repeats),
        "exact_per_s": 1 / _cpu_s(lambda: exact_way(path, side), repeats),
        "ways": {
            name: {
                "per_s": 1 / _cpu_s(partial(way, path, side), repeats),
                "max_difference": int(off[name].max()),
                "share_above_1": float((off[name] > 1).mean()),
            }
            for name, way in WAYS.items()
        },
    }


def exact_way(path: Path, side: int) -> np.ndarray:
    """The protocol: decode in full, LANCZOS."""
    return np.asarray(letterbox(Image.open(path).convert("RGB"), side))


def draft_way(path: Path, side: int) -> np.ndarray:
    """JPEG's own halving while decoding, as far as the picture stays larger than the frame."""
    image = Image.open(path)
    image.draft("RGB", (side, side))
    return np.asarray(letterbox(image.convert("RGB"), side))


def reducing_way(path: Path, side: int) -> np.ndarray:
    """A box filter down to three times the size, then LANCZOS."""
    image = Image.open(path).convert("RGB")
    _, h, w, dx, dy = letterbox_placement((image.height, image.width), side)
    square = Image.new("RGB", (side, side))
    square.paste(image.resize((w, h), Image.Resampling.LANCZOS, reducing_gap=3.0), (dx, dy))
    return np.asarray(square)


def bicubic_way(path: Path, side: int) -> np.ndarray:
    """The next cheaper filter."""
    return np.asarray(letterbox(Image.open(path).convert("RGB"), side, Image.Resampling.BICUBIC))


WAYS: dict[str, Callable[[Path, int], np.ndarray]] = {
    "draft": draft_way,
    "reducing_gap=3": reducing_way,
    "bicubic": bicubic_way,
}


def photograph(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Noise of all scales, as in pictures of nature: about as large in JPEG as a photograph."""
    rng = np.random.default_rng(seed)
    total = np.zeros((*size, 3))
    for scale in (1, 2, 4, 8, 16, 32, 64):
        small = rng.normal(size=(-(-size[0] // scale), -(-size[1] // scale), 3))
        total += scale * np.kron(small, np.ones((scale, scale, 1)))[: size[0], : size[1]]
    total -= total.min()
    return Image.fromarray((255 * total / total.max()).astype(np.uint8))


def _annotated(path: Path, size: tuple[int, int]) -> ImageRecord:
    return ImageRecord(
        image_id=path.stem,
        path=path,
        size=size,
        category="any",
        xy_px=np.zeros((1, 2), np.float32),
        visible=np.zeros(1, bool),
        box_px=(0.0, 0.0, 1.0, 1.0),
    )


def _cpu_s(side: Callable[[], object], repeats: int) -> float:
    side()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        side()
        times.append(time.process_time() - start)
    return median(times)


def table(records: list[dict[str, Any]]) -> str:
    """A markdown table of the rates."""
    names = list(WAYS)
    header = ["image", "loader, images/s", "exact, images/s", *(f"{n}: images/s (max, share > 1)" for n in names)]
    rows = []
    for r in records:
        ways = [r["ways"][n] for n in names]
        cells = [f"{w['per_s']:.0f} ({w['max_difference']}, {w['share_above_1']:.2%})" for w in ways]
        rows.append([r["size"], f"{r['loader_per_s']:.0f}", f"{r['exact_per_s']:.0f}", *cells])
    return markdown_table(header, rows, aligned=True)


if __name__ == "__main__":
    print(describe(machine()))
    print(table(run()))
