"""The feature store: maps of views on disk, mapped into memory when read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from geoalign.backbone.base import Backbone
from geoalign.backbone.store import identity as identity_file
from geoalign.backbone.store.codec import DTYPES, Encoded, Precision, decode, decode_into, empty
from geoalign.backbone.store.errors import StoreError
from geoalign.backbone.store.index import Index
from geoalign.backbone.store.shards import View
from geoalign.backbone.store.space import ensure_space, estimate_bytes
from geoalign.backbone.store.writer import Writer

_CHOICES = {"precision": tuple(DTYPES), "preload": (None, "cpu", "cuda"), "check": ("first-read", "off")}


class FeatureStore:
    """Features of any number of backbones under ``root``, one folder per fingerprint.

    Bound to one backbone by :meth:`bind` (or ``fingerprint`` and ``identity``) before anything is read or written.
    Picklable and safe under fork and spawn: files are mapped anew in each process; held maps are not sent along.

    Args:
        root: one folder per backbone below it
        precision: fp32 | fp16 | bf16 | int8
        shard_mb: MB per file; a writer holds up to two in memory
        preload: cpu | cuda: keep the run's maps in memory
        check: first-read: a view's checksum is compared when a process first reads it | off
    """

    def __init__(
        self,
        root: Path | str,
        precision: Precision = "fp16",
        shard_mb: int = 256,
        preload: Literal["cpu", "cuda"] | None = None,
        check: Literal["first-read", "off"] = "first-read",
        fingerprint: str | None = None,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        for setting, value in (("precision", precision), ("preload", preload), ("check", check)):
            if value not in _CHOICES[setting]:
                raise ValueError(f"store.{setting} is one of {_CHOICES[setting]}, got {value!r}")
        self.root = Path(root)
        self.precision = precision
        self.shard_bytes = shard_mb * 1_000_000
        self.preload = preload
        self.check = check
        self._index: Index | None = None
        self._identity: dict[str, Any] = {}
        self._checked: set[str] = set()
        self._held: dict[str, View] = {}
        self._held_by = os.getpid()
        if fingerprint is not None:
            self._bind(fingerprint, identity or {})

    def bind(self, backbone: Backbone) -> FeatureStore:
        """Open (or be ready to make) the folder of this backbone's features.

        Raises:
            StoreError: the folder holds another precision or another backbone.
        """
        return self._bind(backbone.fingerprint, backbone.identity())

    @property
    def index(self) -> Index:
        """Where the bound backbone's views lie."""
        if self._index is None:
            raise StoreError(f"the store at {self.root} is not bound to a backbone; call bind(backbone) first")
        return self._index

    @property
    def folder(self) -> Path:
        """Where the bound backbone's shards lie."""
        return self.index.folder

    def __len__(self) -> int:
        return len(self.index.where)

    def __contains__(self, key: object) -> bool:
        return key in self.index.where

    def missing(self, keys: Iterable[str]) -> list[str]:
        """The keys that are not stored, each once, in order."""
        return [key for key in dict.fromkeys(keys) if key not in self]

    def name(self, key: str) -> str:
        """The name given when the view was added (image and pose)."""
        return self.index.name(key)

    def read(self, key: str, dtype: torch.dtype | None = torch.float32) -> tuple[Tensor, ...]:
        """Maps ``(c h w)`` of one view; ``dtype=None`` gives the stored type (float32 for int8).

        Where the stored type is asked for, the maps are the file's (or held) memory: not to be written to.

        Raises:
            StoreError: the view is not stored, or its shard is damaged.
        """
        return tuple(decode(encoded, dtype) for encoded in self._view(key))

    def read_many(self, keys: Sequence[str], dtype: torch.dtype | None = torch.float32) -> list[Tensor]:
        """Maps of ``u`` views, one tensor ``(u c h w)`` per map."""
        views = [self._view(key) for key in keys]
        return [_stack(rows, dtype) for rows in zip(*views, strict=True)]

    def hold(self, keys: Iterable[str]) -> None:
        """Keep views in memory where ``preload`` says (nothing where it is None), in their stored precision."""
        if self.preload is None:
            return
        for key in dict.fromkeys(keys):
            if key not in self._held:
                self._held[key] = tuple(encoded.to(self.preload, copy=True) for encoded in self._view(key))
        self._held_by = os.getpid()

    def writer(self, flush_seconds: float = 120.0) -> Writer:
        """A context manager whose ``add(key, maps, name)`` stores views; StoreError where it cannot."""
        self.prepare()
        return Writer(self.index, self.precision, self.shard_bytes, flush_seconds)

    def ensure_space(self, shapes: Sequence[tuple[int, int, int]], views: int) -> str:
        """A line with the size of ``views`` more views of maps ``(c, h, w)``; StoreError when the disk is too small."""
        return ensure_space(self.folder, estimate_bytes(shapes, views, self.precision))

    def prepare(self) -> None:
        """Make the folder and its ``store.json``; StoreError where that cannot be."""
        try:
            identity_file.check_or_write(self.folder, self._content(), write=True)
        except OSError as error:
            raise StoreError(f"cannot write to {self.folder}: {error.strerror}; set another store.root") from error
        if not os.access(self.folder, os.W_OK):
            raise StoreError(f"cannot write to {self.folder}: read-only; set another store.root")

    def refresh(self) -> None:
        """See what other processes have written."""
        self.index.refresh()

    def verify(self, progress: Callable[[int, int], None] | None = None) -> list[str]:
        """Read every shard; names of damaged ones. ``progress(done, total)`` is called after each."""
        return self.index.verify(progress)

    def repair(self, progress: Callable[[int, int], None] | None = None) -> list[str]:
        """Verify and delete damaged shards and leftovers of killed writers; names of the deleted shards.

        Their views are missing from then on, and the next extraction makes them again.
        """
        return self.index.repair(progress)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": {}, "_checked": set()}

    def _bind(self, fingerprint: str, identity: Mapping[str, Any]) -> FeatureStore:
        self._identity = json.loads(json.dumps(dict(identity)))  # as it comes back from the file: tuples are lists
        self._checked, self._held = set(), {}
        identity_file.check_or_write(self.root / fingerprint, self._content(), write=False)
        self._index = Index(self.root / fingerprint)
        return self

    def _content(self) -> dict[str, Any]:
        return {"format": identity_file.FORMAT, "precision": self.precision, "identity": self._identity}

    def _view(self, key: str) -> View:
        # A forked worker cannot use its parent's device memory; the same numbers are on disk.
        if key in self._held and (self.preload == "cpu" or self._held_by == os.getpid()):
            return self._held[key]
        if key not in self:
            raise StoreError(f"view {key} is not in {self.folder} ({len(self)} views); extract the features first")
        shard, row = self.index.find(key)
        if self.check == "first-read" and key not in self._checked:
            if not shard.is_intact(row):
                raise StoreError(f"{shard.path} is damaged (view {key}); run repair() and extract again")
            self._checked.add(key)
        return shard.view(row)


def _stack(rows: Sequence[Encoded], dtype: torch.dtype | None) -> Tensor:
    codes = rows[0].codes
    stored = torch.float32 if codes.dtype == torch.int8 else codes.dtype
    out = empty((len(rows), *codes.shape), dtype or stored, codes.device)
    for target, encoded in zip(out, rows, strict=True):
        decode_into(target, encoded)
    return out
