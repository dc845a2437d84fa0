"""Labels of pictures as files: a csv and COCO keypoints, which training on own pictures and ``adapt`` read alike."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

COLUMNS = ("image", "keypoint", "x", "y", "visible", "category")


class Labels(NamedTuple):
    """What is known of one picture: points by name, px; None where the picture does not show the point."""

    image: str  # as its reader calls it: relative to the folder
    size: tuple[int, int]  # (h, w)
    points: Mapping[str, tuple[float, float] | None]
    category: str = "object"


def write_csv(labels: Sequence[Labels], path: Path, more: Mapping[str, Sequence[object]] | None = None) -> None:
    """One row per point; ``visible`` is 0, and the place empty, where a picture does not show it.

    ``more`` names further columns, with a value for each row.
    """
    columns = more or {}
    rows = [
        (one.image, name, *(("", "") if place is None else (f"{v:.2f}" for v in place)), int(place is not None),
         one.category) for one in labels for name, place in one.points.items()
    ]  # fmt: skip
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow((*COLUMNS, *columns))
        writer.writerows((*row, *others) for row, *others in zip(rows, *columns.values(), strict=True))


def coco(labels: Sequence[Labels]) -> dict[str, Any]:
    """COCO keypoints: an annotation per picture with the box around its points; visibility is 2, or 0 for none.

    >>> coco([Labels("a.png", (4, 6), {"eye": (1.0, 2.0), "tail": None})])["annotations"][0]["keypoints"]
    [1.0, 2.0, 2, 0, 0, 0]
    """
    names = {kind: _names(labels, kind) for kind in dict.fromkeys(one.category for one in labels)}
    kinds = [
        {"id": at, "name": kind, "supercategory": "object", "keypoints": own, "skeleton": []}
        for at, (kind, own) in enumerate(names.items(), 1)
    ]
    ids = {kind: at for at, kind in enumerate(names, 1)}
    images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
    for at, one in enumerate(labels, 1):
        images.append({"id": at, "file_name": one.image, "height": one.size[0], "width": one.size[1]})
        places = [one.points.get(name) for name in names[one.category]]
        flat = [v for p in places for v in ((0, 0, 0) if p is None else (round(p[0], 2), round(p[1], 2), 2))]
        box = _box(one)
        annotations.append({
            "id": at, "image_id": at, "category_id": ids[one.category], "iscrowd": 0, "keypoints": flat,
            "num_keypoints": sum(p is not None for p in places), "bbox": box, "area": round(box[2] * box[3], 1),
        })  # fmt: skip
    return {"images": images, "annotations": annotations, "categories": kinds}


def _names(labels: Sequence[Labels], category: str) -> list[str]:
    return list(dict.fromkeys(name for one in labels if one.category == category for name in one.points))


def _box(one: Labels) -> list[float]:
    """x, y, width and height around the points that are seen; the whole picture where none is."""
    seen = [place for place in one.points.values() if place is not None]
    if not seen:
        return [0.0, 0.0, float(one.size[1]), float(one.size[0])]
    xy = np.array(seen, float)
    return [round(v, 1) for v in (*xy.min(0).tolist(), *np.maximum(np.ptp(xy, 0), 1).tolist())]
