"""Scripts called in this process, as a user calls them."""

import sys
from typing import Any

from hydra.core.global_hydra import GlobalHydra


def call(script: Any, *words: str) -> int:
    """A script's main with these words; its exit code."""
    GlobalHydra.instance().clear()
    before, sys.argv = sys.argv, [f"{script.__name__}.py", *words]
    try:
        script.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before
    return 0
