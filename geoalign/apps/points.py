"""Points from the command line, from a csv file, or from a grid."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from geoalign.apps.inputs import outside
from geoalign.data.records import DataError


class Points(NamedTuple):
    """Named points ``(n 2)``, x y in px."""

    names: list[str]
    xy_px: np.ndarray


def parse_points(words: list[str]) -> Points:
    """Points written as ``120,85``, numbered from 0; or the one csv file that is named instead.

    >>> parse_points(["120,85", "200,90.5"]).xy_px.tolist()
    [[120.0, 85.0], [200.0, 90.5]]
    """
    if len(words) == 1 and words[0].lower().endswith(".csv"):
        return read_points_file(Path(words[0]))
    rows = [_point(word) for word in words]
    return Points([str(i) for i in range(len(rows))], np.array(rows, np.float64).reshape(-1, 2))


def read_points_file(path: Path, image: str | None = None) -> Points:
    """Points of a csv: columns x and y, and optionally keypoint (the name) and image (then only ``image``'s rows)."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise DataError.at(path, "file", "a csv of points", "no such file", "correct the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError.at(path, "file", "a csv of points", str(error), "save it as UTF-8 csv") from error
    if not rows or not {"x", "y"} <= set(rows[0]):
        got = "no rows" if not rows else ", ".join(map(str, rows[0]))
        raise DataError.at(path, "columns", "x, y and optionally keypoint, image", got, "correct the header")
    kept = [row for row in rows if image is None or row.get("image") in (None, image)]
    kept = [row for row in kept if (row["x"] or "").strip()]  # a keypoint that is not visible has none
    if not kept:
        raise DataError.at(path, "image", f"rows of {image}", "none", "name that image in the file")
    names = [row.get("keypoint") or str(i) for i, row in enumerate(kept)]
    return Points(names, np.array([_point(f"{row['x']},{row['y']}", path) for row in kept], np.float64))


def grid_points(count: int, size: tuple[int, int]) -> Points:
    """About ``count`` points along the longer side of an image of ``size = (h, w)``, evenly spaced both ways.

    >>> grid_points(2, (10, 20)).xy_px.tolist()
    [[5.0, 5.0], [15.0, 5.0]]
    """
    if not 1 <= count <= 200:
        raise ValueError(f"a grid has 1 to 200 points along the longer side, got {count}")
    step = max(size) / count
    columns, rows = max(1, round(size[1] / step)), max(1, round(size[0] / step))
    x, y = (np.arange(columns) + 0.5) * size[1] / columns, (np.arange(rows) + 0.5) * size[0] / rows
    xy = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    return Points([str(i) for i in range(len(xy))], xy)


def on_image(points: Points, size: tuple[int, int]) -> tuple[Points, list[str]]:
    """The points that lie on the image, and what to say of the others."""
    wrong = outside(points.xy_px, size)
    told = [
        f"point {name} ({x:g}, {y:g}): outside the {size[1]}x{size[0]} image"
        for name, (x, y), out in zip(points.names, points.xy_px, wrong, strict=True)
        if out
    ]
    if wrong.all():
        raise ValueError("no point lies on the source: " + "; ".join(told))
    return Points([n for n, out in zip(points.names, wrong, strict=True) if not out], points.xy_px[~wrong]), told


def _point(text: str, path: Path | None = None) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError as error:
        where = f"{path}: " if path else ""
        raise ValueError(f"{where}a point is x,y in px such as 120,85, got {text!r}") from error
    return x, y
