"""Data folders that are written whole or not at all, and named by what they hold."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from geoalign.files import sha256, short_hash

MARKER = "synthetic.json"
"""File whose presence says that a folder is complete; holds its parameters, counts and content hash."""


def default_root(cache: str | Path, **params: Any) -> Path:
    """A folder in the cache whose name holds a hash of the parameters, so that others never share it."""
    return Path(cache) / f"synthetic-{short_hash(_plain(params))[:12]}"


def write_once(root: Path, params: Mapping[str, Any], fill: Callable[[Path], Mapping[str, Any]]) -> Path:
    """Have ``fill`` write into a hidden sibling folder and move it to ``root``; reuse a folder already complete.

    ``fill`` returns facts for the marker. Raises FileExistsError where ``root`` holds something else.
    """
    if root.exists():
        return _reuse(root, params)
    root.parent.mkdir(parents=True, exist_ok=True)
    draft = root.parent / f".{root.name}-{os.getpid()}-{secrets.token_hex(4)}"
    draft.mkdir()
    try:
        facts = {"params": _plain(params), **fill(draft), "sha256": content_hash(draft)}
        (draft / MARKER).write_text(json.dumps(facts, indent=1), encoding="utf-8")
        try:
            os.replace(draft, root)
        except OSError:
            return _reuse(root, params)  # another process was faster
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return root


def content_hash(root: Path) -> str:
    """SHA-256 of every file's path and bytes below ``root``, the marker left out."""
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file() and p.name != MARKER):
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode())
        digest.update(bytes.fromhex(sha256(path)))
    return digest.hexdigest()


def _reuse(root: Path, params: Mapping[str, Any]) -> Path:
    marker = root / MARKER
    if not marker.is_file():
        raise FileExistsError(
            f"{root} is there but is not a complete synthetic data set (no {MARKER}); remove it or choose another root"
        )
    found, wanted = json.loads(marker.read_text(encoding="utf-8"))["params"], _plain(params)
    if found != wanted:
        changed = ", ".join(f"{k}={found.get(k)!r}" for k in sorted(wanted) if found.get(k) != wanted[k])
        raise FileExistsError(f"{root} was written with other settings ({changed or found}); choose another root")
    return root


def _plain(params: Mapping[str, Any]) -> dict[str, Any]:
    """As json gives them back, so that written and asked-for parameters compare."""
    return dict(json.loads(json.dumps({k: dict(v) if isinstance(v, Mapping) else v for k, v in params.items()})))
