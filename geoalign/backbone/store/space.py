"""How much disk a store will take, asked before it is written."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from geoalign.backbone.store.codec import DTYPES, Precision
from geoalign.backbone.store.identity import StoreError

_HEADER = 512, 256
"""Bytes of a view's file for its name and checksum, and for the header of each map."""


def estimate_bytes(shapes: Sequence[tuple[int, int, int]], views: int, precision: Precision) -> int:
    """Bytes on disk of ``views`` views with maps of ``shapes = (c, h, w)``.

    >>> estimate_bytes([(640, 60, 60), (1280, 30, 30), (1280, 15, 15), (768, 60, 60)], 1, "int8")
    6542080
    """
    codes = sum(c * h * w for c, h, w in shapes) * DTYPES[precision].itemsize
    scales = sum(8 * c for c, _, _ in shapes) if precision == "int8" else 0
    return views * (codes + scales + _HEADER[0] + _HEADER[1] * len(shapes))


def ensure_space(folder: Path, needed: int) -> str:
    """A line with what is needed and what is free; StoreError when less than a tenth of it would remain to spare."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    line = f"features take {_size(needed)}, {_size(free)} are free at {existing}"
    if needed + needed // 10 > free:
        raise StoreError(
            f"{line}: too little (a tenth to spare is asked for); free some, move store.root, or set "
            "store.precision=int8 or store=off"
        )
    return line


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"
