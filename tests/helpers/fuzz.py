"""Broken inputs for readers: mutations of valid JSON documents and image files, and the verdict on a reader.

A reader's test writes a valid tree, replaces one file by each mutation, and passes the call to :func:`verdict`:
every case must read (a documented repair or a harmless change) or raise a :class:`DataError` that names file and field.
"""

from __future__ import annotations

import copy
import io
import json
import random
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from PIL import Image

from geoalign.data.records import DataError

Read = TypeVar("Read")
Case = TypeVar("Case")

WRONG_VALUES: tuple[Any, ...] = (
    None, True, "", "12", "../../etc/passwd", "a/b.jpg", "..", "\0", "unknown", "Größe ß.jpg", [], {}, [1],
    [[1, 2], [3]], ["1", "2"], [None, 3], [float("nan"), 3], [1, 2, 3, 4], -1, 0, 3.7, 10**12, 10**400,
    float("nan"), float("inf"), -1e300, [1e8, 1], [-1e6, 5], [{}], {"0": 1},
)  # fmt: skip
FEW_VALUES: tuple[Any, ...] = (None, [], "..", float("nan"))


class Mutation(NamedTuple):
    """One broken file: a label for the report, and the bytes."""

    label: str
    data: bytes

    def __str__(self) -> str:
        return self.label


def json_mutations(document: Any, read: Callable[[tuple[Any, ...]], bool]) -> Iterator[Mutation]:
    """Broken versions of ``document``; fields for which ``read(path)`` holds get every wrong value, others a few."""
    text = json.dumps(document)
    for share in range(10):
        cut = share * len(text) // 10
        yield Mutation(f"truncated at {cut}", text[:cut].encode())
    for label, data in (
        ("latin-1", text.replace("{", '{"\xe9": 1, ', 1).encode("latin-1")),
        ("utf-16", text.encode("utf-16")),
        ("zeros", bytes(len(text))),
        ("byte order mark", b"\xef\xbb\xbf" + text.encode()),
        ("trailing junk", text.encode() + b"}"),
        ("deep nesting", b"[" * 100_000),
        ("long integer", b'{"image_width": ' + b"9" * 5000 + b"}"),
        ("list", f"[{text}]".encode()),
        ("number", b"3"),
        ("null", b"null"),
    ):
        yield Mutation(label, data)
    for path in _paths(document):
        yield Mutation(f"{_dotted(path)} removed", json.dumps(_without(document, path)).encode())
        for value in WRONG_VALUES if read(path) else FEW_VALUES:
            yield Mutation(f"{_dotted(path)} = {str(value)[:20]!r}", json.dumps(_with(document, path, value)).encode())


def image_mutations(count: int, seed: int = 0) -> Iterator[Mutation]:
    """``count`` damaged files in several formats: cut short, bytes changed, bytes taken out, headers swapped."""
    rng = random.Random(seed)
    whole = {fmt: _encoded(fmt) for fmt in ("JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP")}
    for case in range(count):
        fmt = rng.choice(sorted(whole))
        data = bytearray(whole[fmt])
        kind = rng.choice(("cut", "flip", "header", "remove", "swap"))
        if kind == "cut":
            data = data[: rng.randrange(len(data))]
        elif kind in ("flip", "header"):
            for _ in range(rng.randint(1, 12)):
                data[rng.randrange(min(64, len(data)) if kind == "header" else len(data))] = rng.randrange(256)
        elif kind == "remove":
            start = rng.randrange(len(data))
            del data[start : start + rng.randint(1, 200)]
        else:
            other = whole[rng.choice(sorted(whole))]
            data[:16] = other[:16]
        yield Mutation(f"{case} {fmt} {kind}", bytes(data))


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Ends the test run's current test where it waits for longer, as one does that opens a pipe nobody writes to."""
    before = signal.signal(signal.SIGALRM, _late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _late(number: int, frame: object) -> NoReturn:
    raise TimeoutError("still waiting")


def every(cases: Iterable[Case], check: Callable[[Case], None]) -> None:
    """Check every case in one test; those that fail are named together. A test each cost more than the checks."""
    failed, count = [], 0
    for count, case in enumerate(cases, 1):  # noqa: B007
        try:
            check(case)
        except Exception as error:
            failed.append(f"{case}: {type(error).__name__}: {error}")
    assert count, "no cases"
    assert not failed, f"{len(failed)} of {count}:\n" + "\n".join(failed[:20])


def verdict(read: Callable[[], Read], *files: Path) -> Read | DataError:
    """What ``read`` gives, or its :class:`DataError` once that names one of ``files`` and a field."""
    try:
        return read()
    except DataError as error:
        refusal = error
    told = str(refusal)
    assert refusal.file in {str(file) for file in files}, f"names {refusal.file!r}, not one of {files}"
    assert refusal.field, f"names no field: {told}"
    assert refusal.file in told, f"hides the file: {told}"
    assert refusal.field in told, f"hides the field: {told}"
    assert "\n" not in told, f"more than one line: {told}"
    return refusal


def _encoded(fmt: str) -> bytes:
    image = Image.radial_gradient("L").resize((60, 40)).convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, fmt)
    return buffer.getvalue()


def _paths(value: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*prefix, key)
        yield from _paths(child, (*prefix, key))


def _with(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(document)
    _parent(changed, path)[path[-1]] = value
    return changed


def _without(document: Any, path: tuple[Any, ...]) -> Any:
    changed = copy.deepcopy(document)
    del _parent(changed, path)[path[-1]]
    return changed


def _parent(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        document = document[key]
    return document


def _dotted(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))
