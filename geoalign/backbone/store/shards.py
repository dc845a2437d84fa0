"""One shard: a safetensors file with the maps of some views stacked, written in one atomic step.

A shard's tensors are ``map0 (n c h w)``, ``map1``, … and for int8 ``scale0 (n c)`` and ``offset0 (n c)``; its header
metadata lists the ``n`` keys, their names and a CRC-32 per view. The file's name ends in the CRC-32 of the header, so
header, data and length are all covered, and the folder's listing is the index's only root.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from geoalign.backbone.store.codec import Encoded, checksum, raw_bytes
from geoalign.backbone.store.errors import StoreError

SUFFIX = ".safetensors"
PARTIAL = ".partial"
_TYPE_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int8: "I8"}

View = tuple[Encoded, ...]


class ShardHeader(NamedTuple):
    """What opening a store reads of a shard: keys, their names and checksums."""

    keys: list[str]
    names: list[str]
    checksums: list[int]


class Item(NamedTuple):
    """A view waiting to be written."""

    key: str
    name: str
    view: View


def write_shard(folder: Path, items: Sequence[Item]) -> Path:
    """Write, sync, rename; a failure leaves nothing behind and raises ``OSError``."""
    header = _header_bytes(items)
    # Names start with the time, so "the first shard wins" is the order of names.
    stem = f"{time.time_ns():016x}-{uuid.uuid4().hex[:12]}-{zlib.crc32(header):08x}"
    partial = folder / (stem + PARTIAL)
    final = folder / (stem + SUFFIX)
    try:
        with open(partial, "wb") as file:
            file.write(header)
            for block in _blocks(items):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, final)
    finally:
        partial.unlink(missing_ok=True)
    _sync_folder(folder)
    return final


def read_header(path: Path) -> ShardHeader:
    """Header of a whole shard; StoreError where name, header and length disagree."""
    try:
        with open(path, "rb") as file:
            start = file.read(8)
            (length,) = struct.unpack("<Q", start)
            size = os.fstat(file.fileno()).st_size
            text = file.read(length) if length < size else b""
    except (OSError, struct.error) as error:
        raise StoreError(f"shard {path.name} cannot be read: {error}") from error
    if f"{zlib.crc32(start + text):08x}" != path.stem.rsplit("-", 1)[-1]:
        raise StoreError(f"shard {path.name} has a damaged header")
    header = json.loads(text)  # the CRC has vouched for it
    meta = header.pop("__metadata__")
    want = 8 + length + max(entry["data_offsets"][1] for entry in header.values())
    if size != want:
        raise StoreError(f"shard {path.name} is {size} bytes, its header says {want}")
    keys, names, checksums = (json.loads(meta[field]) for field in ("keys", "names", "checksums"))
    return ShardHeader(keys, names, checksums)


class OpenShard:
    """A shard mapped into memory; rows are views into the mapping (private: writes never reach the file)."""

    def __init__(self, path: Path, header: ShardHeader) -> None:
        self.path = path
        self.header = header
        try:
            with safe_open(path, framework="pt") as file:
                self.tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise StoreError(f"shard {path.name} cannot be read ({error}); run repair() and extract again") from error
        self.maps = sum(name.startswith("map") for name in self.tensors)

    def view(self, row: int) -> View:
        """The stored maps of one view."""
        return tuple(self._map(i, row) for i in range(self.maps))

    def is_intact(self, row: int) -> bool:
        """Whether one view's bytes are those that were written."""
        return checksum(self.view(row)) == self.header.checksums[row]

    def _map(self, i: int, row: int) -> Encoded:
        scale, offset = (x if x is None else x[row] for x in map(self.tensors.get, (f"scale{i}", f"offset{i}")))
        return Encoded(self.tensors[f"map{i}"][row], scale, offset)


def list_shards(folder: Path) -> list[str]:
    """File names of the shards, oldest first; whatever else lies in the folder is not ours to touch."""
    return sorted(path.name for path in folder.glob(f"{'?' * 16}-{'?' * 12}-{'?' * 8}{SUFFIX}"))


def remove_partials(folder: Path, older_than_s: float = 900.0) -> None:
    """Delete what killed writers left; a living writer touches its file every few seconds."""
    for path in folder.glob(f"*{PARTIAL}"):
        with contextlib.suppress(FileNotFoundError):  # its writer has just finished
            if time.time() - path.stat().st_mtime > older_than_s:
                path.unlink()


def _header_bytes(items: Sequence[Item]) -> bytes:
    fields = {
        "keys": [i.key for i in items],
        "names": [i.name for i in items],
        "checksums": [checksum(i.view) for i in items],
    }
    header: dict[str, Any] = {"__metadata__": {"format": "pt"} | {k: json.dumps(v) for k, v in fields.items()}}
    end = 0
    for name, tensors in _stacks(items):
        size = sum(t.numel() * t.element_size() for t in tensors)
        shape = [len(tensors), *tensors[0].shape]
        header[name] = {"dtype": _TYPE_NAMES[tensors[0].dtype], "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _stacks(items: Sequence[Item]) -> Iterator[tuple[str, list[Tensor]]]:
    """Each tensor of the shard as the list of its rows, in file order; never stacked in memory."""
    for i, encoded in enumerate(items[0].view):
        for j, name in enumerate(("map",) if encoded.scale is None else ("scale", "offset", "map")):
            yield f"{name}{i}", [item.view[i].parts[j] for item in items]


def _blocks(items: Sequence[Item]) -> Iterator[memoryview]:
    for _, tensors in _stacks(items):
        yield from map(raw_bytes, tensors)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
