"""Middlebury optical flow files (``.flo``): magic, width, height, then ``(dx, dy)`` per pixel, little-endian."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from geoalign.data.records import DataError, as_data_errors
from geoalign.data.validation import RESTORE
from geoalign.files import read_bytes

MAGIC = b"PIEH"  # 202021.25 as a float
UNKNOWN = 1e9  # components at or above this, and NaN, mark pixels without a correspondence
MAX_SIDE = 100_000


def read_flow(path: Path, size: tuple[int, int] | None = None) -> Float32[np.ndarray, "h w 2"]:
    """Displacements (dx, dy) in px, NaN where unknown; ``size`` is the (h, w) it must have.

    Raises:
        DataError: no .flo file, another size, or a length that contradicts it.
    """
    with as_data_errors():
        raw = read_bytes(path, remedy=RESTORE)
    if len(raw) < 12 or raw[:4] != MAGIC:
        raise DataError.at(path, "header", f"a .flo file beginning with {MAGIC!r}", raw[:4], RESTORE)
    w, h = (int(side) for side in np.frombuffer(raw, "<i4", 2, 4))
    if not (0 < w <= MAX_SIDE and 0 < h <= MAX_SIDE) or (size is not None and (h, w) != tuple(size)):
        want = "a width and height" if size is None else "{}x{} (h x w), as the image".format(*size)
        raise DataError.at(path, "size", want, f"{h}x{w}", RESTORE)
    if len(raw) != 12 + 8 * w * h:
        raise DataError.at(path, "pixels", f"{12 + 8 * w * h} bytes for {h}x{w}", f"{len(raw)} bytes", RESTORE)
    flow = np.frombuffer(raw, "<f4", 2 * w * h, 12).reshape(h, w, 2)
    return np.where((np.abs(flow) < UNKNOWN).all(-1, keepdims=True), flow, np.float32("nan"))
