"""What a script prints stands in its log too (``train.log`` in the run's folder)."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

LOG = logging.getLogger("printed")
"""``conf/hydra/default.yaml`` sends it to the log file alone; without hydra it goes nowhere."""
LOG.setLevel(logging.INFO)


def say(text: str, to: TextIO | None = None) -> None:
    """Print a line, to ``to`` (standard output), and log it."""
    print(text, file=to or sys.stdout, flush=True)
    LOG.log(logging.ERROR if to is sys.stderr else logging.INFO, text)
