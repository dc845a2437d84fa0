"""Writing Middlebury flow files, as the readers' tests need them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from geoalign.data.readers.flow import MAGIC, UNKNOWN


def write_flow(path: Path, flow: np.ndarray) -> None:
    """Write displacements ``(h w 2)``; NaN becomes unknown."""
    h, w = flow.shape[:2]
    values = np.where(np.isnan(flow), 10 * UNKNOWN, flow).astype("<f4")
    path.write_bytes(MAGIC + np.array([w, h], "<i4").tobytes() + values.tobytes())
