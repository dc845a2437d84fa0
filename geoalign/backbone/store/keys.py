"""Names of cached views: by what they hold, never by where the image lies."""

from __future__ import annotations

import hashlib
import os
import re
from functools import cache
from pathlib import Path

from geoalign.files import sha256

KEY = re.compile(r"[0-9a-f]{32}")


def view_key(backbone_fingerprint: str, image_hash: str, pose: str) -> str:
    """Key of one image under one pose through one backbone.

    >>> view_key("a", "b", "upright") == view_key("a", "b", "flip")
    False
    >>> len(view_key("a", "b", "flip"))
    32
    """
    text = "\n".join((backbone_fingerprint, image_hash, pose))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def image_hash(path: Path | str) -> str:
    """Hash of a file's bytes; read once per process as long as size and time stay."""
    stat = os.stat(path)
    return _file_hash(str(path), stat.st_size, stat.st_mtime_ns)


@cache
def _file_hash(path: str, size: int, mtime_ns: int) -> str:
    return sha256(path)[:32]
