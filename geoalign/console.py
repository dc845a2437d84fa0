"""What a script prints stands in its log too (``train.log`` in the run's folder)."""

from __future__ import annotations

import logging
import sys

LOG = logging.getLogger("printed")
"""``conf/hydra/default.yaml`` sends it to the log file alone; without hydra it goes nowhere."""
LOG.setLevel(logging.INFO)


def say(text: str, error: bool = False) -> None:
    """Print a line, on standard error if it is one, and log it."""
    print(text, file=sys.stderr if error else sys.stdout, flush=True)
    LOG.log(logging.ERROR if error else logging.INFO, text)
