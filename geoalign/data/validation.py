"""Reading files that may be wrong: every check names the file, the field, what was expected and the remedy."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geoalign import files
from geoalign.data.records import DataError, as_data_errors

FAR_OUTSIDE = 0.5
"""Points and boxes may leave the image by this share of its longer side; annotators overshoot by a few pixels."""

Box = tuple[float, float, float, float]
"""x1 y1 x2 y2 in px."""

RESTORE = "restore the file from the dataset's archive"


PLAIN_NAME = re.compile(r"(?!\.{1,2}\Z)[^/\\\x00-\x1f\ud800-\udfff]+")


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
    if PLAIN_NAME.fullmatch(name) is None:
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

    def numbers(self, key: str, length: int | None = None) -> list[float]:
        """A list of finite numbers, of ``length`` entries where given."""
        return [self.finite(key, value) for value in self.items(key, length)]

    def objects(self, key: str) -> list[Fields]:
        """A list of objects, each with an ``id`` of its own, as in COCO files."""
        entries = enumerate(self.items(key))
        items = [Fields(self.file, entry, f"{self.prefix}{key}[{at}].", self.remedy) for at, entry in entries]
        seen: set[int] = set()
        for item in items:
            if (number := item.integer("id")) in seen:
                raise item.fail("id", f"an id listed once in {key}", number)
            seen.add(number)
        return items

    def box(self, key: str, size: tuple[int, int], notes: list[str]) -> Box:
        """``[x1, y1, x2, y2]`` with some extent; swapped corners are put in order and noted (a repair)."""
        return self.ordered_box(key, self.numbers(key, 4), size, notes)

    def ordered_box(self, key: str, values: list[float], size: tuple[int, int], notes: list[str]) -> Box:
        """As :meth:`box`, of ``values`` that were read already."""
        if len(values) != 4 or not all(is_near(x, y, size) for x, y in (values[:2], values[2:])):
            raise self.fail(key, f"[x1, y1, x2, y2] in or near the {size[1]}x{size[0]} image", values)
        x1, x2 = sorted(values[0::2])
        y1, y2 = sorted(values[1::2])
        if x2 <= x1 or y2 <= y1:
            raise self.fail(key, "a box with width and height", values)
        if [x1, y1, x2, y2] != values:
            notes.append(f"{self.file}: {self.prefix}{key}: swapped corners {values} put in order")
        return x1, y1, x2, y2

    def coco_box(self, key: str = "bbox") -> Box:
        """``[x, y, w, h]`` with some extent, as corners."""
        x, y, w, h = self.numbers(key, 4)
        if w <= 0 or h <= 0:
            raise self.fail(key, "[x, y, w, h] with positive sides", [x, y, w, h])
        return x, y, x + w, y + h

    def coco_points(self, count: int, key: str = "keypoints") -> list[tuple[float, float] | None]:
        """``count`` times ``x, y, visibility`` in a row; None where visibility is 0."""
        flat = self.numbers(key, 3 * count)
        if not {0, 1, 2}.issuperset(flat[2::3]):
            raise self.fail(key, "x, y and visibility 0, 1 or 2", flat[2::3])
        return [(x, y) if seen else None for x, y, seen in zip(flat[0::3], flat[1::3], flat[2::3], strict=True)]

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


def coco_objects(document: Fields) -> Iterator[tuple[Fields, Fields, Fields]]:
    """Every annotation of a COCO file by id, with its image and its category, which the file must list."""
    images, categories = ({o.integer("id"): o for o in document.objects(key)} for key in ("images", "categories"))
    for item in sorted(document.objects("annotations"), key=lambda item: item.integer("id")):
        image, category = item.integer("image_id"), item.integer("category_id")
        if image not in images:
            raise item.fail("image_id", "an image the file lists", image)
        if category not in categories:
            raise item.fail("category_id", f"one of the file's {len(categories)} categories", category)
        yield item, images[image], categories[category]


def is_near(x: float, y: float, size: tuple[int, int]) -> bool:
    """Whether a point lies in an image of ``size = (h, w)`` or within :data:`FAR_OUTSIDE` of it."""
    slack = FAR_OUTSIDE * max(size)
    return -slack <= x <= size[1] + slack and -slack <= y <= size[0] + slack
