"""Keypoint files of people's own images: a CSV, a plain JSON object, or COCO keypoints, read to one table."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from geoalign.data.readers.csv_rows import coordinate, read_rows
from geoalign.data.records import DataError
from geoalign.data.validation import Fields, read_object

Point = tuple[float, float]
Box = tuple[float, float, float, float]
REMEDY = "correct the keypoint file"


class Marked(NamedTuple):
    """What the keypoint file says about one image."""

    where: Fields  # for errors
    points: dict[str, Point | None]  # by name, None = not visible
    split: str = ""
    category: str = ""
    box_px: Box | None = None


def read_points(path: Path) -> dict[str, Marked]:
    """Image path (as written, relative, ``/``) to its marks, in the file's order.

    CSV columns: ``image, keypoint, x, y`` and optionally ``visible`` (0 or 1), ``split``, ``category``; an image may
    have one row without a keypoint. JSON: ``{image: {keypoint: [x, y] or null}}``, or COCO with ``images``,
    ``annotations`` and ``categories`` (the first animal or object of each image).
    """
    if path.suffix.lower() == ".csv":
        return _csv(path)
    document = read_object(path, REMEDY)
    if {"images", "annotations", "categories"} <= set(document.data):
        return _coco(document)
    return {relative(document, key): _plain(document, key) for key in document.data}


def relative(fields: Fields, name: str, key: str = "image") -> str:
    """``name`` as a path below the images' folder, without ``..``."""
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.name or path.is_absolute() or ".." in path.parts or any(ord(c) < 32 for c in name):
        raise fields.fail(key, "a path below the images' folder", name)
    return path.as_posix()


def _csv(path: Path) -> dict[str, Marked]:
    table: dict[str, Marked] = {}
    for row in read_rows(path, ("image", "keypoint", "x", "y"), REMEDY):
        image = relative(row, row.text("image"))
        split, category = (str(row.data.get(key, "")) for key in ("split", "category"))
        marked = table.setdefault(image, Marked(row, {}, split, category))
        for key, value in (("split", split), ("category", category)):
            if getattr(marked, key) != value:
                raise row.fail(key, f"{getattr(marked, key)!r}, as in the image's first row", value)
        keypoint, x, y = str(row.value("keypoint")), coordinate(row, "x"), coordinate(row, "y")
        if not keypoint and x is None and y is None:
            continue
        if not keypoint or keypoint in marked.points:
            raise row.fail("keypoint", "a name or number, once per image", keypoint)
        shown = row.text("visible", ("0", "1")) == "1" if "visible" in row else x is not None or y is not None
        if shown and (x is None or y is None):
            raise row.fail("x" if x is None else "y", "a number of px for a visible keypoint", "")
        marked.points[keypoint] = (x, y) if shown and x is not None and y is not None else None
    return table


def _plain(document: Fields, key: str) -> Marked:
    entry = Fields(document.file, document.data[key], f"{key}.", REMEDY)
    points: dict[str, Point | None] = {}
    for name, value in entry.data.items():
        if value is not None and not (isinstance(value, list) and len(value) == 2):
            raise entry.fail(name, "null or [x, y]", value)
        points[name] = None if value is None else (entry.finite(name, value[0]), entry.finite(name, value[1]))
    return Marked(entry, points)


def _coco(document: Fields) -> dict[str, Marked]:
    kinds = {kind.integer("id"): kind for kind in _listed(document, "categories")}
    images = {image.integer("id"): image for image in _listed(document, "images")}
    table = {relative(i, i.text("file_name"), "file_name"): Marked(i, {}) for i in images.values()}
    if len(table) < len(images):
        raise document.fail("images", "every file_name once", f"{len(images) - len(table)} repeated")
    for item in sorted(_listed(document, "annotations"), key=lambda item: item.integer("id")):
        number, kind = item.integer("image_id"), item.integer("category_id")
        if number not in images or kind not in kinds:
            raise item.fail("image_id", "an image and a category the file lists", f"{number} and {kind}")
        name = relative(images[number], images[number].text("file_name"))
        if not table[name].points:
            table[name] = _coco_object(item, kinds[kind])
    return table


def _coco_object(item: Fields, kind: Fields) -> Marked:
    names = [str(name) for name in kind.items("keypoints")]
    flat = [item.finite("keypoints", value) for value in item.items("keypoints", 3 * len(names))]
    if not names or len(set(names)) < len(names):
        raise kind.fail("keypoints", "distinct names", names)
    points: dict[str, Point | None] = {}
    for name, x, y, seen in zip(names, flat[0::3], flat[1::3], flat[2::3], strict=True):
        if seen not in (0, 1, 2):
            raise item.fail("keypoints", "visibility 0, 1 or 2", seen)
        points[name] = (x, y) if seen else None
    box: Box | None = None
    if "bbox" in item:
        x, y, w, h = (item.finite("bbox", value) for value in item.items("bbox", 4))
        if w <= 0 or h <= 0:
            raise item.fail("bbox", "[x, y, w, h] with positive sides", [x, y, w, h])
        box = (x, y, x + w, y + h)
    return Marked(item, points, category=kind.text("name"), box_px=box)


def _listed(document: Fields, key: str) -> list[Fields]:
    entries: list[Any] = document.items(key)
    items = [Fields(document.file, entry, f"{key}[{i}].", REMEDY) for i, entry in enumerate(entries)]
    ids = [item.integer("id") for item in items]
    if len(set(ids)) < len(ids):
        raise DataError.at(document.file, key, "every id once", sorted(ids)[:12], REMEDY)
    return items
