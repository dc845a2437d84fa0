"""Reading files that may be wrong: every check names the file, the field, what was expected and the remedy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geoalign import files
from geoalign.data.records import DataError, as_data_errors

FAR_OUTSIDE = 0.5
"""Points and boxes may leave the image by this share of its longer side; annotators overshoot by a few pixels."""

RESTORE = "restore the file from the dataset's archive"


def read_text(path: Path, remedy: str = RESTORE) -> str:
    """A UTF-8 file's text, as :func:`geoalign.files.read_text` gives it; raises ``DataError``."""
    with as_data_errors():
        return files.read_text(path, remedy=remedy)


def read_object(path: Path, remedy: str = RESTORE) -> Fields:
    """A JSON file whose top level is an object, ready for field checks; raises ``DataError``."""
    with as_data_errors():
        return Fields(path, files.read_json(path, remedy=remedy), remedy=remedy)


def plain_name(name: str, file: Path, field: str) -> str:
    """``name`` where it is a bare file name: no folders, no ``..``, nothing that escapes the dataset's root."""
    bad = name in ("", ".", "..") or any(c in "/\\" or ord(c) < 32 or 0xD800 <= ord(c) <= 0xDFFF for c in name)
    if bad:
        raise DataError.at(file, field, "a plain file name without folders or '..'", name, "rename the file and entry")
    return name


class Fields:
    """A JSON object with typed, named access; ``prefix`` locates it inside ``file``.

    >>> Fields(Path("a.json"), {"width": 3}).integer("width", low=1)
    3
    """

    def __init__(self, file: Path, data: Any, prefix: str = "", remedy: str = RESTORE) -> None:
        self.file, self.prefix, self.remedy = file, prefix, remedy
        if not isinstance(data, Mapping):
            raise DataError.at(file, prefix.rstrip(".") or "top level", "an object", data, remedy)
        self.data: Mapping[str, Any] = data

    def fail(self, key: str, expected: str, got: object, remedy: str | None = None) -> DataError:
        """The error to raise about ``key``."""
        return DataError.at(self.file, f"{self.prefix}{key}", expected, got, remedy or self.remedy)

    def __contains__(self, key: str) -> bool:
        return self.data.get(key) is not None

    def value(self, key: str) -> Any:
        """What ``key`` holds; absent keys are errors."""
        if key not in self.data:
            raise self.fail(key, "the field to be present", f"only {sorted(map(str, self.data))[:12]}")
        return self.data[key]

    def child(self, key: str) -> Fields:
        """The object under ``key``."""
        return Fields(self.file, self.value(key), f"{self.prefix}{key}.", self.remedy)

    def text(self, key: str, choices: Sequence[str] | None = None) -> str:
        """A non-empty string, one of ``choices`` where given."""
        value = self.value(key)
        if not isinstance(value, str) or not value:
            raise self.fail(key, "a non-empty string", value)
        if choices is not None and value not in choices:
            raise self.fail(key, f"one of {', '.join(choices)}", value)
        return value

    def items(self, key: str, length: int | None = None) -> list[Any]:
        """A list, of ``length`` entries where given."""
        value = self.value(key)
        if not isinstance(value, list) or (length is not None and len(value) != length):
            raise self.fail(key, "a list" if length is None else f"a list of {length}", value)
        return value

    def integer(self, key: str, low: int = 0, high: int = 10**9) -> int:
        """A whole number in ``[low, high]``; ``3.0`` counts, ``true`` and ``"3"`` do not."""
        number = self.number(key)
        if number != int(number) or not low <= number <= high:
            raise self.fail(key, f"a whole number in {low}..{high}", self.data[key])
        return int(number)

    def number(self, key: str) -> float:
        """A finite number."""
        return self.finite(key, self.value(key))

    def finite(self, field: str, value: Any) -> float:
        """``value`` as a float if it is a finite JSON number."""
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e9 or math.isnan(value):
            raise self.fail(field, "a finite number", value)
        return float(value)

    def size(self, width: str, height: str) -> tuple[int, int]:
        """An image's ``(h, w)`` from two fields."""
        return self.integer(height, 1, 100_000), self.integer(width, 1, 100_000)

    def point(self, key: str, size: tuple[int, int]) -> tuple[float, float] | None:
        """An ``[x, y]`` not far outside an image of ``size``, or null."""
        value = self.value(key)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != 2:
            raise self.fail(key, "null or [x, y]", value)
        x, y = (self.finite(key, v) for v in value)
        if not is_near(x, y, size):
            raise self.fail(
                key, f"a point in or near the {size[1]}x{size[0]} image", value, "correct it or set it null"
            )
        return x, y

    def box(self, key: str, size: tuple[int, int], notes: list[str]) -> tuple[float, float, float, float]:
        """``[x1, y1, x2, y2]`` with some extent; swapped corners are put in order and noted (a repair)."""
        values = [self.finite(key, v) for v in self.items(key, 4)]
        x1, x2 = sorted(values[0::2])
        y1, y2 = sorted(values[1::2])
        if not (is_near(x1, y1, size) and is_near(x2, y2, size)):
            raise self.fail(key, f"corners in or near the {size[1]}x{size[0]} image", values)
        if x2 - x1 <= 0 or y2 - y1 <= 0:
            raise self.fail(key, "a box with width and height", values)
        if [x1, y1, x2, y2] != values:
            notes.append(f"{self.file}: {self.prefix}{key}: swapped corners {values} put in order")
        return x1, y1, x2, y2

    def points(self, key: str, slots: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Points by slot number under ``key`` (every slot present, null = not visible): ``(n 2)`` and ``(n)`` bool."""
        child = self.child(key)
        stray = sorted(set(child.data) - {str(slot) for slot in range(slots)})
        if stray:
            raise self.fail(key, f'slots "0".."{slots - 1}"', stray[:5])
        xy, visible = np.zeros((slots, 2), np.float32), np.zeros(slots, bool)
        for slot in range(slots):
            point = child.point(str(slot), size)
            if point is not None:
                xy[slot], visible[slot] = point, True
        return xy, visible


def is_near(x: float, y: float, size: tuple[int, int]) -> bool:
    """Whether a point lies in an image of ``size = (h, w)`` or within :data:`FAR_OUTSIDE` of it."""
    slack = FAR_OUTSIDE * max(size)
    return -slack <= x <= size[1] + slack and -slack <= y <= size[0] + slack
