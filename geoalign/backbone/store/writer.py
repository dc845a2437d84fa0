"""Filling a store: views gather in memory and leave as whole shards."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from geoalign.backbone.store.codec import Precision, encode, is_finite
from geoalign.backbone.store.errors import StoreError
from geoalign.backbone.store.index import Index
from geoalign.backbone.store.shards import Item, View, remove_partials, write_shard


class Writer:
    """Adds views to a store; a context manager, one per process, any number of processes.

    A shard is written, beside the computation, when it is full or ``flush_seconds`` old, and at the end of the ``with``
    block, also when that ends in an error: what was computed is kept.
    """

    def __init__(self, index: Index, precision: Precision, shard_bytes: int, flush_seconds: float = 120.0) -> None:
        self.index = index
        self.precision = precision
        self.shard_bytes = shard_bytes
        self.flush_seconds = flush_seconds
        self._items: dict[str, Item] = {}
        self._bytes = 0
        self._started = 0.0
        # Checksums and the disk's sync take seconds a shard, in which the backbone goes on.
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[Path] | None = None
        self._leaving: dict[str, Item] = {}

    def __enter__(self) -> Writer:
        remove_partials(self.index.folder)
        self.index.refresh()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._thread:
            self.flush()

    def add(self, key: str, maps: Sequence[Tensor], name: str = "") -> bool:
        """Store maps ``(c h w)`` of one view; False where the store has it already.

        ``name`` (image and pose) is kept beside the features and names the view in errors.

        Raises:
            StoreError: a value is not finite, or does not fit the precision.
        """
        if key in self._items or key in self._leaving or key in self.index.where:
            return False
        view = self._encode(maps, name or key)
        if self._items and _layout(view) != _layout(next(iter(self._items.values())).view):
            self._begin()  # a shard stacks its views, so they have one shape
        self._items[key] = Item(key, name, view)
        self._bytes += sum(part.numel() * part.element_size() for encoded in view for part in encoded.parts)
        self._started = self._started or time.monotonic()
        if self._bytes >= self.shard_bytes or time.monotonic() - self._started >= self.flush_seconds:
            self._begin()
        return True

    def add_batch(self, keys: Sequence[str], maps: Sequence[Tensor], names: Sequence[str] | None = None) -> int:
        """Store maps ``(u c h w)`` of ``u`` views; how many were new."""
        names = names or [""] * len(keys)
        rows = zip(keys, zip(*maps, strict=True), names, strict=True)
        return sum(self.add(key, view, name) for key, view, name in rows)

    def flush(self) -> None:
        """Write what has gathered, and wait until it is on disk."""
        self._begin()
        self._finish()

    def _begin(self) -> None:
        """Hand what has gathered, less what another process wrote meanwhile, to the writing thread."""
        self._finish()
        items, self._items, self._bytes, self._started = self._items, {}, 0, 0.0
        self.index.refresh()
        self._leaving = {key: item for key, item in items.items() if key not in self.index.where}
        if self._leaving:
            self._writing = self._thread.submit(write_shard, self.index.folder, list(self._leaving.values()))

    def _finish(self) -> None:
        """Wait for the shard that is being written, if any."""
        writing, self._writing = self._writing, None
        leaving, self._leaving = self._leaving, {}
        if writing is None:
            return
        try:
            writing.result()
        except OSError as error:
            raise StoreError(
                f"{len(leaving)} views not written to {self.index.folder}: {error.strerror or error}; "
                "what was written before is whole, run again to go on"
            ) from error
        self.index.refresh()

    def _encode(self, maps: Sequence[Tensor], name: str) -> View:
        view = tuple(encode(x.detach(), self.precision) for x in maps)
        if not all(map(is_finite, view)):
            if all(bool(torch.isfinite(x).all()) for x in maps):
                raise StoreError(f"features of {name} do not fit {self.precision}; set store.precision=bf16")
            raise StoreError(f"features of {name} are not finite; look at the image, or run the backbone in float32")
        return tuple(encoded.to("cpu") for encoded in view)


def _layout(view: View) -> list[torch.Size]:
    return [encoded.codes.shape for encoded in view]
