"""Reads an offline run file back: the log's framing (LevelDB's), and wandb's own record messages inside."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

BLOCK, HEADER = 32768, 7
FULL, FIRST, LAST = 1, 2, 4


def payloads(path: Path) -> Iterator[bytes]:
    """Every record's bytes; checks the magic number and each part's checksum."""
    data = path.read_bytes()
    assert data[:4] == b":W&B", data[:7]
    at, parts = HEADER, b""
    while at + HEADER <= len(data):
        left = BLOCK - at % BLOCK
        if left < HEADER:  # a block's end too short for a header is padding
            at += left
            continue
        checksum, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        body = data[at + HEADER : at + HEADER + length]
        assert zlib.crc32(body, zlib.crc32(bytes([kind]))) == checksum, f"damaged at {at}"
        parts = body if kind in (FULL, FIRST) else parts + body
        at += HEADER + length
        if kind in (FULL, LAST):
            yield parts


def records(path: Path) -> Iterator[object]:
    """Every record of a run file as wandb's message."""
    from wandb.proto.wandb_internal_pb2 import Record

    for payload in payloads(path):
        record = Record()
        record.ParseFromString(payload)
        yield record
