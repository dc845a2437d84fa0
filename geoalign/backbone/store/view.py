"""One stored view: a safetensors file whose name is the view's key, written in one atomic step.

Its tensors are ``codes0 (c h w)``, ``codes1``, … and for int8 ``scale0 (c)`` and ``offset0 (c)``; its metadata hold a
name for readers (image and pose) and a CRC-32 over the key and all of these.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from geoalign.backbone.store.codec import Encoded
from geoalign.backbone.store.identity import StoreError
from geoalign.files import FileError, replacing
from geoalign.tensors import read_tensors

View = tuple[Encoded, ...]


def write_view(path: Path, name: str, view: View) -> None:
    """All of it under its name, or nothing; ``OSError`` where the disk refuses."""
    rows = ((i, encoded._asdict().items()) for i, encoded in enumerate(view))
    tensors = {f"{field}{i}": part for i, fields in rows for field, part in fields if part is not None}
    metadata = {"format": "pt", "name": name, "crc32": checksum(path.stem, name, tensors)}
    with replacing(path) as partial:
        partial.write_bytes(save(tensors, metadata))


def read_view(path: Path, check: bool = True) -> View:
    """Maps, mapped into memory (privately: writes to them never reach the file).

    Raises:
        StoreError: it is not what was written under this key; seen only partly without ``check``.
    """
    try:
        tensors, metadata = read_tensors(path)
    except FileError as error:
        raise StoreError(f"{path} is damaged ({error.got}); run repair() and extract again") from error
    name = metadata.get("name", "")
    if check and metadata.get("crc32") != checksum(path.stem, name, tensors):
        raise StoreError(f"{path} ({name!a}) is damaged; run repair() and extract again")
    maps = range(sum(field.startswith("codes") for field in tensors))
    return tuple(Encoded(*(tensors.get(f"{part}{i}") for part in Encoded._fields)) for i in maps)


def checksum(key: str, name: str, tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 in hexadecimal over key and name, and every tensor's name, type, shape and bytes."""
    crc = zlib.crc32(f"{key}\n{name}".encode())
    for field, tensor in sorted(tensors.items()):
        crc = zlib.crc32(f"\n{field} {tensor.dtype} {tuple(tensor.shape)}\n".encode(), crc)
        crc = zlib.crc32(tensor.flatten().view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"
