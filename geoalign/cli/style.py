"""How every command's ``--help`` looks."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any


def examples(lines: Iterable[str], name: str) -> dict[str, Any]:
    """What argparse is given so that a command's help ends with its examples, those of ``lines`` that call it."""
    own = [line for line in lines if line.split()[1] == name]
    epilog = "\n".join(["examples:", *own]) if own else None
    return {"epilog": epilog, "formatter_class": argparse.RawDescriptionHelpFormatter}
