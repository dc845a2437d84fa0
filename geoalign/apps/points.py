"""Points from the command line, from a csv file, or from a grid."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from geoalign.apps.inputs import outside
from geoalign.apps.picture import Answer
from geoalign.data.readers.csv_rows import coordinate, read_rows
from geoalign.data.records import DataError

MOST_GRID = 200


class Points(NamedTuple):
    """Named points ``(n 2)``, x y in px."""

    names: list[str]
    xy_px: Float[np.ndarray, "n 2"]


def parse_points(words: list[str]) -> Points:
    """Points written as ``120,85``, numbered from 0; raises ValueError for what is none.

    >>> parse_points(["120,85", "200,90.5"]).xy_px.tolist()
    [[120.0, 85.0], [200.0, 90.5]]
    """
    try:
        rows = [tuple(float(part) for part in word.split(",")) for word in words]
        return Points([str(i) for i in range(len(rows))], np.array(rows, np.float64).reshape(-1, 2))
    except ValueError as error:
        raise ValueError(f"points are x,y in px such as 120,85, got {' '.join(words)!r}") from error


def parse_box(word: str | None) -> tuple[float, ...] | None:
    """A box written as ``40,30,200,150``; ValueError for what is none.

    >>> parse_box("40,30,200,150")
    (40.0, 30.0, 200.0, 150.0)
    """
    try:
        box = None if word is None else tuple(float(part) for part in word.split(","))
    except ValueError:
        box = ()
    if box is not None and len(box) != 4:
        raise ValueError(f"a box is x1,y1,x2,y2 in px such as 40,30,200,150, got {word!r}")
    return box


def read_points_file(path: Path, image: str | None = None) -> Points:
    """Points of a csv: columns x and y, and optionally keypoint (the name) and image (then only ``image``'s rows).

    Raises DataError for a file that cannot be read, for a name given twice, and where it has no point of the image.
    """
    names, places = list[str](), list[tuple[float, float]]()
    for row in read_rows(path, ("x", "y"), "correct the file: columns x, y and optionally keypoint, image"):
        x, y = coordinate(row, "x"), coordinate(row, "y")
        if x is None or image not in (None, row.data.get("image", image)):
            continue  # a keypoint that is not visible has no place
        if y is None:
            raise row.fail("y", "a number of px where x has one", "")
        name = row.data.get("keypoint") or str(len(names))
        if name in names:
            raise row.fail("keypoint", "every name once for an image", name)
        names.append(name)
        places.append((x, y))
    if not places:
        raise DataError.at(path, "image", f"rows of {image}", "none", "name that image in the file")
    return Points(names, np.array(places, np.float64))


def grid_points(count: int, size: tuple[int, int]) -> Points:
    """About ``count`` points along the longer side of an image of ``size = (h, w)``, evenly spaced both ways.

    >>> grid_points(2, (10, 20)).xy_px.tolist()
    [[5.0, 5.0], [15.0, 5.0]]
    """
    if not 1 <= count <= MOST_GRID:
        raise ValueError(f"a grid has 1 to {MOST_GRID} points along the longer side, got {count}")
    rows, columns = (max(1, round(side * count / max(size))) for side in size)
    x, y = (np.arange(columns) + 0.5) * size[1] / columns, (np.arange(rows) + 0.5) * size[0] / rows
    xy = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    return Points([str(i) for i in range(len(xy))], xy)


def on_mask(points: Points, mask: Bool[np.ndarray, "h w"]) -> Points:
    """The points that lie on a mask over the picture, under the names they have; all of them where none does."""
    x, y = (np.clip(points.xy_px[:, axis], 0, mask.shape[1 - axis] - 1).astype(int) for axis in (0, 1))
    kept = np.flatnonzero(mask[y, x])
    return Points([points.names[i] for i in kept], points.xy_px[kept]) if len(kept) else points


def on_image(points: Points, size: tuple[int, int]) -> tuple[Points, list[str]]:
    """The points that lie on an image of ``size = (h, w)``, and a line on each other one; ValueError if none does."""
    kept = ~outside(points.xy_px, size)
    skipped = [
        f"point {points.names[i]} ({points.xy_px[i, 0]:g}, {points.xy_px[i, 1]:g}): outside the "
        f"{size[1]}x{size[0]} image" for i in np.flatnonzero(~kept)
    ]  # fmt: skip
    if not kept.any():
        raise ValueError("no point lies on the source: " + "; ".join(skipped))
    return Points([points.names[i] for i in np.flatnonzero(kept)], points.xy_px[kept]), skipped


def match_rows(names: Iterable[str | int], src_xy_px: Float[np.ndarray, "n 2"], answer: Answer) -> list[dict[str, Any]]:
    """Every point with its match as plain data: point, source and target in px, score, confidence, visible."""
    source_px = src_xy_px.tolist()
    found = answer.xy_px.tolist(), answer.score.tolist(), answer.confidence.tolist(), answer.visible.tolist()
    return [{"point": name, "source": source, "target": [round(v, 2) for v in target], "score": round(score, 4),
             "confidence": round(sure, 4), "visible": visible}
            for name, source, target, score, sure, visible in zip(names, source_px, *found, strict=True)]  # fmt: skip
