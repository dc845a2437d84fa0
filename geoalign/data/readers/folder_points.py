"""Keypoint files of people's own images: a CSV, a plain JSON object, or COCO keypoints, read to one table."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import NamedTuple

from geoalign.data.readers.coco import coco_box, coco_objects, coco_points
from geoalign.data.readers.csv_rows import coordinate, read_rows
from geoalign.data.readers.keypoints import Box, Point
from geoalign.data.validation import Fields, read_object

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
    entry = document.child(key)
    return Marked(entry, {name: entry.point(name) for name in entry.data})


def _coco(document: Fields) -> dict[str, Marked]:
    table: dict[str, Marked] = {}
    for entry in document.items("images"):
        image = Fields(document.file, entry, "images.", REMEDY)
        name = relative(image, image.text("file_name"), "file_name")
        if name in table:
            raise image.fail("file_name", "every file_name once", name)
        table[name] = Marked(image, {})
    for item, image, category in coco_objects(document):
        name = relative(image, image.text("file_name"))
        if not table[name].points:
            table[name] = _coco_object(item, category)
    return table


def _coco_object(item: Fields, category: Fields) -> Marked:
    names = [str(name) for name in category.items("keypoints")]
    if not names or len(set(names)) < len(names):
        raise category.fail("keypoints", "distinct names", names)
    points = dict(zip(names, coco_points(item, len(names)), strict=True))
    return Marked(item, points, category=category.text("name"), box_px=coco_box(item) if "bbox" in item else None)
