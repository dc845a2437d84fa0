"""Cached indexes: arrays in one file, keyed by the names, sizes and times of everything they were read from."""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from geoalign.files import replacing

log = logging.getLogger(__name__)

VERSION = 1
"""Raised whenever a reader or the stored arrays change, so that older caches are rebuilt."""


def signature(paths: Iterable[Path], *facts: object) -> str:
    """Hash of the stat (name, size, mtime in ns) of files and of every file directly inside folders."""
    digest = hashlib.sha256(repr((VERSION, facts)).encode())
    for path in paths:
        if path.is_dir():
            with os.scandir(path) as entries:
                stats = sorted((e.name, e.stat()) for e in entries)
        else:
            stats = [(path.name, path.stat())]
        for name, stat in stats:
            digest.update(
                f"{path.name}/{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape")
            )
    return digest.hexdigest()


def cached(root: Path, name: str, key: str, build: Callable[[], Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    """The arrays stored for ``key``, or those of ``build``, stored for the next time.

    They lie in ``root/.geoalign``, or in the user's cache folder where the root cannot be written.
    """
    folders = cache_folders(root)
    for folder in folders:
        arrays = _load(folder / f"{name}.npz", key)
        if arrays is not None:
            return arrays
    arrays = build()
    for folder in folders:
        if _store(folder / f"{name}.npz", key, arrays):
            break
    return arrays


def cache_folders(root: Path) -> list[Path]:
    """Where indexes of the dataset at ``root`` may lie, in order of preference."""
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(str(root.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return [root / ".geoalign", user / "geoalign" / f"index-{digest}"]


def _load(path: Path, key: str) -> Mapping[str, np.ndarray] | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {field: stored[field] for field in stored.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        log.warning("%s: unreadable index cache, rebuilt (%s)", path, error)
        return None
    return arrays if str(arrays.pop("key", "")) == key else None


def _store(path: Path, key: str, arrays: Mapping[str, np.ndarray]) -> bool:
    """Written beside its place and moved there, so that no reader ever sees half a file."""
    try:
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, key=np.array(key), **arrays)
    except OSError as error:
        log.info("%s: index not cached (%s)", path, error)
        return False
    return True
