"""``store.json``: whose features a folder holds, and in which precision."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geoalign.files import read_json, replacing

FORMAT = 2
FILE = "store.json"


class StoreError(ValueError):
    """A store cannot be opened, read or written; one line with the file and the remedy."""


def check_or_write(folder: Path, content: Mapping[str, Any], write: bool) -> None:
    """Compare with the folder's ``store.json``; with ``write``, make folder and file where they are missing."""
    path = folder / FILE
    if write and not path.exists():
        with replacing(path) as partial:
            partial.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    if path.exists():
        _compare(path, read(path), content)


def read(path: Path) -> dict[str, Any]:
    """Content of a ``store.json``; ``FileError`` or ``StoreError`` where it is none of this format."""
    content = read_json(path, remedy="delete its folder and extract again")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        held = content.get("format") if isinstance(content, dict) else None
        raise StoreError(
            f"{path} is of store format {held}, this version reads {FORMAT}; delete its folder or set another "
            "store.root, and extract again"
        )
    return content


def differences(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The settings in which two identities differ, on one line.

    >>> differences({"timestep": 50, "size": 960}, {"timestep": 261, "size": 960})
    'timestep 50, not 261'
    """
    names = [name for name in sorted({*held, *wanted}) if held.get(name) != wanted.get(name)]
    return ", ".join(f"{name} {held.get(name)!r}, not {wanted.get(name)!r}" for name in names)


def _compare(path: Path, held: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    if held["precision"] != wanted["precision"]:
        raise StoreError(
            f"{path.parent} holds {held['precision']} features, asked for {wanted['precision']}; "
            f"set store.precision={held['precision']} or another store.root"
        )
    if held["identity"] != wanted["identity"]:
        raise StoreError(f"{path.parent} holds another backbone: {differences(held['identity'], wanted['identity'])}")
