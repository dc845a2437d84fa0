"""Whether the batches of loader processes fit the shared memory that they pass through.

Where it is missing or too small, PyTorch's worker fails in a thread of its own and the loader waits for ever.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from pathlib import Path

from geoalign.data.batch.views import ViewLoader, ViewRef

log = logging.getLogger(__name__)

SHARED = Path("/dev/shm")


def free_bytes() -> int | None:
    """Free shared memory, 0 where there is none to write to; None where it is not in the file system (not Linux)."""
    if sys.platform != "linux":
        return None
    return shutil.disk_usage(SHARED).free if os.access(SHARED, os.W_OK) else 0


def usable_workers(workers: int, loader: ViewLoader, view: ViewRef, views: int, ranks: int = 1) -> int:
    """As many of ``workers`` as batches of ``views`` such views fit in memory for; a warning where these are fewer.

    A worker prepares two batches while up to two more are in use. Half of what is free is left to the loaders of other
    datasets. ``view`` is loaded once, to measure it.
    """
    if workers == 0 or (free := free_bytes()) is None:
        return workers
    loaded = loader([view])
    batch = views * sum(t.nbytes for t in (*loaded.get("images", {}).values(), *loaded.get("maps", ())))
    fitting = max(0, min(workers, (free // (2 * ranks) // max(batch, 1) - 2) // 2))
    if fitting < workers:
        log.warning(
            "%s has %d MB free, too little for %d loader processes with batches of %d MB: loading with %d; give it "
            "more (docker: --shm-size=8g), or set data.workers or data.eval_views lower",
            *(SHARED, free >> 20, workers, batch >> 20, fitting),
        )
    return fitting
