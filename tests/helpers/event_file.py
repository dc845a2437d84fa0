"""Reads TensorBoard's event files back: length-framed messages."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path


def scalars(paths: Iterable[Path]) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of every scalar by its name, over all files of a run; pictures with the value NaN."""
    from tensorboardX.proto.event_pb2 import Event

    found = dict[str, list[tuple[int, float]]]()
    for path in sorted(paths):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack("<Q", data[at : at + 8])
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += 12 + length + 4
            for value in event.summary.value:
                kind = value.WhichOneof("value")
                number = value.simple_value if kind == "simple_value" else float("nan")
                found.setdefault(value.tag, []).append((event.step, number))
    return found
