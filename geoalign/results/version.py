"""Which code made a result."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from geoalign.version import __version__


@with_config(ConfigDict(extra="forbid"))
class CodeVersion(TypedDict):
    """Package version, and the commit where the package is run from a checkout."""

    package: str
    commit: str | None
    dirty: bool | None


def code_version() -> CodeVersion:
    """Version of the package, with commit and dirty flag only where git tracks this very package."""
    tracked = _git("ls-files", "--error-unmatch", "__init__.py")
    commit = _git("rev-parse", "HEAD") if tracked is not None else None
    changes = _git("status", "--porcelain", "--untracked-files=no") if commit else None
    return CodeVersion(package=__version__, commit=commit, dirty=None if changes is None else bool(changes))


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parents[1]), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None  # no git here: the package version must do
    return done.stdout.strip() if done.returncode == 0 else None
