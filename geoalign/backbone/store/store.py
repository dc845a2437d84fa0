"""The feature store: maps of views on disk, one file each, mapped into memory when read."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from geoalign.backbone.base import Backbone
from geoalign.backbone.store import identity as identity_file
from geoalign.backbone.store.codec import DTYPES, Encoded, Precision, decode, decode_into, empty, encode, is_finite
from geoalign.backbone.store.identity import StoreError
from geoalign.backbone.store.keys import KEY
from geoalign.backbone.store.space import ensure_space, estimate_bytes
from geoalign.backbone.store.view import View, read_view, write_view

SUFFIX = ".safetensors"
_CHOICES = {"precision": tuple(DTYPES), "preload": (None, "cpu", "cuda"), "check": ("first-read", "off")}
_MOST_MAPPED = 1 << 15
"""Files a process keeps mapped; Linux allows 65,530 mappings in all."""
_LEFTOVER_S = 900.0
"""A partial file this old has no living writer: writing one takes well under a second."""


class FeatureStore:
    """Features of any number of backbones under ``root``, one folder per fingerprint.

    Bound to one backbone by :meth:`bind` (or ``fingerprint`` and ``identity``) before anything is read or written. The
    folder itself is the index, so any number of processes may read and write at once, and each sees what the others
    have written. Picklable and safe under fork and spawn: files are mapped anew in each process.

    Args:
        root: one folder per backbone below it
        precision: fp32 | fp16 | bf16 | int8
        preload: cpu | cuda: keep the run's maps in memory
        check: first-read: a view's checksum is compared when a process first reads it | off
    """

    def __init__(
        self,
        root: Path | str,
        precision: Precision = "fp16",
        preload: Literal["cpu", "cuda"] | None = None,
        check: Literal["first-read", "off"] = "first-read",
        fingerprint: str | None = None,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        for setting, value in (("precision", precision), ("preload", preload), ("check", check)):
            if value not in _CHOICES[setting]:
                raise ValueError(f"store.{setting} is one of {_CHOICES[setting]}, got {value!r}")
        self.root, self.precision, self.preload, self.check = Path(root), precision, preload, check
        self._folder: Path | None = None
        self._identity: dict[str, Any] = {}
        self._mapped: dict[str, View] = {}
        self._preloaded: dict[str, View] = {}
        self._preloaded_by = os.getpid()
        if fingerprint is not None:
            self._bind(fingerprint, identity or {})

    def bind(self, backbone: Backbone) -> FeatureStore:
        """Open (or be ready to make) the folder of this backbone's features.

        Raises:
            StoreError: the folder holds another precision or another backbone.
        """
        return self._bind(backbone.fingerprint, backbone.identity())

    @property
    def folder(self) -> Path:
        """Where the bound backbone's views lie."""
        if self._folder is None:
            raise StoreError(f"the store at {self.root} is not bound to a backbone; call bind(backbone) first")
        return self._folder

    def keys(self) -> set[str]:
        """Keys of the stored views; whatever else lies in the folder is not ours to touch."""
        files = self.folder.glob(f"*{SUFFIX}")
        return {path.stem for path in files if KEY.fullmatch(path.stem)}

    def __len__(self) -> int:
        return len(self.keys())

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.path(key).exists()

    def path(self, key: str) -> Path:
        """Where a view lies or would lie."""
        return self.folder / f"{key}{SUFFIX}"

    def missing(self, keys: Iterable[str]) -> list[str]:
        """The keys that are not stored, each once, in order."""
        stored = self.keys()
        return [key for key in dict.fromkeys(keys) if key not in stored]

    def read(self, key: str, dtype: torch.dtype | None = torch.float32) -> tuple[Float[Tensor, "_ _ _"], ...]:
        """Maps ``(c h w)`` of one view; ``dtype=None`` gives the stored type (float32 for int8).

        Where the stored type is asked for, the maps are the file's (or preloaded) memory: not to be written to.

        Raises:
            StoreError: the view is not stored, or damaged.
        """
        return tuple(decode(encoded, dtype) for encoded in self._view(key))

    def read_many(
        self, keys: Sequence[str], dtype: torch.dtype | None = torch.float32
    ) -> list[Float[Tensor, "u _ _ _"]]:
        """Maps of ``u`` views, one tensor ``(u c h w)`` per map."""
        views = [self._view(key) for key in keys]
        return [_stack(rows, dtype) for rows in zip(*views, strict=True)]

    def preload_views(self, keys: Iterable[str]) -> None:
        """Keep views in memory where ``preload`` says (nothing where it is None), in their stored precision."""
        if self.preload is None:
            return
        for key in dict.fromkeys(keys):
            if key not in self._preloaded:
                self._preloaded[key] = tuple(encoded.to(self.preload, copy=True) for encoded in self._view(key))
                self._mapped.pop(key, None)
        self._preloaded_by = os.getpid()

    def add(self, key: str, maps: Sequence[Float[Tensor, "_ _ _"]], name: str = "") -> bool:
        """Store maps ``(c h w)`` of one view; False where the store has it already.

        ``name`` (image and pose) is kept beside the features and names the view in errors.

        Raises:
            StoreError: a value is not finite or does not fit the precision, or the disk refuses.
        """
        if not KEY.fullmatch(key):
            raise ValueError(f"a key is 32 hexadecimal digits, got {key!r}; make it with view_key()")
        if key in self:
            return False
        view = self._encode(maps, name or key)
        if not (self.folder / identity_file.FILE).exists():
            self.prepare()
        try:
            write_view(self.path(key), name, view)
        except OSError as error:
            raise StoreError(
                f"{name or key} not written to {self.folder}: {error.strerror or error}; "
                "what was written before is whole, run again to go on"
            ) from error
        return True

    def add_batch(
        self, keys: Sequence[str], maps: Sequence[Float[Tensor, "u _ _ _"]], names: Sequence[str] | None = None
    ) -> int:
        """Store maps ``(u c h w)`` of ``u`` views; how many were new."""
        rows = zip(keys, zip(*maps, strict=True), names or [""] * len(keys), strict=True)
        return sum(self.add(key, view, name) for key, view, name in rows)

    def ensure_space(self, shapes: Sequence[tuple[int, int, int]], views: int) -> str:
        """A line with the size of ``views`` more views of maps ``(c, h, w)``; StoreError when the disk is too small."""
        return ensure_space(self.folder, estimate_bytes(shapes, views, self.precision))

    def prepare(self) -> None:
        """Make the folder and its ``store.json``, clear away what killed writers left; StoreError where that fails."""
        try:
            identity_file.check_or_write(self.folder, self._content(), write=True)
            if not os.access(self.folder, os.W_OK):
                raise StoreError(f"cannot write to {self.folder}: read-only; set another store.root")
            for partial in self.folder.glob(".*.partial"):
                with contextlib.suppress(FileNotFoundError):  # its writer has just finished
                    if time.time() - partial.stat().st_mtime > _LEFTOVER_S:
                        partial.unlink()
        except OSError as error:
            raise StoreError(f"cannot write to {self.folder}: {error.strerror}; set another store.root") from error

    def verify(self) -> list[str]:
        """Read every byte; keys of damaged views."""
        return [key for key in sorted(self.keys()) if not self._is_whole(key)]

    def repair(self) -> list[str]:
        """Verify and delete damaged views; their keys. The next extraction makes them again."""
        self.prepare()
        damaged = self.verify()
        for key in damaged:
            self.path(key).unlink(missing_ok=True)
            self._mapped.pop(key, None)
        return damaged

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_mapped": {}, "_preloaded": {}}

    def _bind(self, fingerprint: str, identity: Mapping[str, Any]) -> FeatureStore:
        self._identity = json.loads(json.dumps(dict(identity)))  # as it comes back from the file: tuples are lists
        self._mapped, self._preloaded = {}, {}
        self._folder = self.root / fingerprint
        identity_file.check_or_write(self._folder, self._content(), write=False)
        return self

    def _content(self) -> dict[str, Any]:
        return {"format": identity_file.FORMAT, "precision": self.precision, "identity": self._identity}

    def _encode(self, maps: Sequence[Tensor], name: str) -> View:
        view = tuple(encode(x.detach(), self.precision) for x in maps)
        if not all(map(is_finite, view)):
            if all(bool(torch.isfinite(x).all()) for x in maps):
                raise StoreError(f"features of {name} do not fit {self.precision}; set store.precision=bf16")
            raise StoreError(f"features of {name} are not finite; look at the image, or run the backbone in float32")
        return tuple(encoded.to("cpu") for encoded in view)

    def _view(self, key: str) -> View:
        # A forked worker cannot use its parent's device memory; the same numbers are on disk.
        if key in self._preloaded and (self.preload == "cpu" or self._preloaded_by == os.getpid()):
            return self._preloaded[key]
        if key not in self._mapped:
            if key not in self:
                raise StoreError(f"view {key} is not in {self.folder} ({len(self)} views); extract the features first")
            if len(self._mapped) >= _MOST_MAPPED:
                del self._mapped[next(iter(self._mapped))]
            self._mapped[key] = read_view(self.path(key), self.check == "first-read")
        return self._mapped[key]

    def _is_whole(self, key: str) -> bool:
        try:
            read_view(self.path(key))
        except StoreError:
            return False
        return True


def _stack(rows: Sequence[Encoded], dtype: torch.dtype | None) -> Float[Tensor, "u c h w"]:
    codes = rows[0].codes
    stored = torch.float32 if codes.dtype == torch.int8 else codes.dtype
    out = empty((len(rows), *codes.shape), dtype or stored, codes.device)
    for target, encoded in zip(out, rows, strict=True):
        decode_into(target, encoded)
    return out
