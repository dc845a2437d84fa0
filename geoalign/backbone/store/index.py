"""Which shard of a folder holds which view; made from the shards' headers, so it cannot disagree with them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from geoalign.backbone.store.errors import StoreError
from geoalign.backbone.store.shards import OpenShard, ShardHeader, list_shards, read_header, remove_partials


class Index:
    """Keys of a folder of shards, and the shards mapped into this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.headers: dict[str, ShardHeader] = {}
        self.damaged: dict[str, str] = {}
        self.where: dict[str, tuple[str, int]] = {}
        self._open: dict[str, OpenShard] = {}
        self.refresh()

    def refresh(self) -> None:
        """Take in shards that appeared and let go of shards that vanished; warns of damaged ones."""
        present = list_shards(self.folder)
        if self.headers.keys() | self.damaged.keys() == set(present):
            return
        known_damage = self.damaged
        self.damaged = {name: why for name, why in known_damage.items() if name in present}
        self.headers = {name: header for name in present if (header := self._header(name)) is not None}
        self._open = {name: shard for name, shard in self._open.items() if name in self.headers}
        self._rebuild()
        if new := [why for name, why in self.damaged.items() if name not in known_damage]:
            warnings.warn(
                f"{self.folder}: {'; '.join(new)}; its views count as missing, repair() removes it", stacklevel=2
            )

    def find(self, key: str) -> tuple[OpenShard, int]:
        """The mapped shard and the row of a key; KeyError where it is not stored."""
        name, row = self.where[key]
        if name not in self._open:
            self._open[name] = OpenShard(self.folder / name, self.headers[name])
        return self._open[name], row

    def name(self, key: str) -> str:
        """The name given when the view was added."""
        shard, row = self.where[key]
        return self.headers[shard].names[row]

    def verify(self, progress: Callable[[int, int], None] | None = None) -> list[str]:
        """Read every byte; names of damaged shards, whose views are from now on missing."""
        self.refresh()
        headers = list(self.headers.items())
        for done, (name, header) in enumerate(headers, start=1):
            if reason := _damage(self.folder / name, header):
                self.damaged[name] = reason
                del self.headers[name]
                self._open.pop(name, None)
            if progress is not None:
                progress(done, len(headers))
        self._rebuild()
        return sorted(self.damaged)

    def repair(self, progress: Callable[[int, int], None] | None = None) -> list[str]:
        """Verify, then delete damaged shards and leftovers of killed writers; names of the deleted shards."""
        damaged = self.verify(progress)
        try:
            for name in damaged:
                (self.folder / name).unlink(missing_ok=True)
            remove_partials(self.folder)
        except OSError as error:
            raise StoreError(f"cannot remove damaged shards of {self.folder}: {error.strerror}") from error
        self.refresh()
        return damaged

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}  # every process maps for itself

    def _rebuild(self) -> None:
        self.where = {}
        for name, header in self.headers.items():
            for row, key in enumerate(header.keys):
                self.where.setdefault(key, (name, row))  # names sort by time: the first wins

    def _header(self, name: str) -> ShardHeader | None:
        if name in self.headers or name in self.damaged:
            return self.headers.get(name)
        try:
            return read_header(self.folder / name)
        except StoreError as error:
            self.damaged[name] = str(error)
            return None


def _damage(path: Path, header: ShardHeader) -> str | None:
    try:
        shard = OpenShard(path, header)
    except StoreError as error:
        return str(error)
    bad = sum(not shard.is_intact(row) for row in range(len(header.keys)))
    return f"shard {path.name} has {bad} damaged views of {len(header.keys)}" if bad else None
