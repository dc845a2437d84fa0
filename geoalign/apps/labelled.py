"""A few true points beside pseudo-labels."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from geoalign.apps.inputs import outside
from geoalign.data.readers.folder_points import read_points
from geoalign.data.records import DataError, ImageRecord
from geoalign.geometry import letterbox_points
from geoalign.pseudo.label import Set

Marks = Mapping[str, Mapping[str, tuple[float, float]]]
"""Per photograph, per keypoint: x, y in px as a viewer shows it."""


def read_labels(path: Path) -> Marks:
    """The points that can be seen, of any file of keypoints that ``data=folder`` reads: csv, json or COCO.

    Raises:
        DataError: another file.
    """
    marks = {name: marked.points.items() for name, marked in read_points(path).items()}
    return {name: {point: place for point, place in own if place is not None} for name, own in marks.items()}


def labelled_sets(marks: Marks, records: Sequence[ImageRecord], count: int, seed: int) -> list[Set]:
    """Sets of two labelled photographs of one kind, each as it is, with all points that both show; ``count`` of them.

    As many as there are sets of pseudo-labels, so that half of the steps see true points.

    Raises:
        DataError: fewer than two photographs that share two points.
    """
    own = [at for at, record in enumerate(records) if record.image_id in marks]
    able = [
        (a, b) for a in own for b in own
        if a < b and records[a].category == records[b].category and len(_shared(marks, records, a, b)) > 1
    ]  # fmt: skip
    if not able:
        got = f"{len(own)} of the photographs to learn from"
        raise DataError.at("labels", "image", "two photographs or more that share two points", got, "label more")
    rng = random.Random(f"{seed}/labelled")
    return [_set(marks, records, *rng.choice(able)) for _ in range(count)]


def _shared(marks: Marks, records: Sequence[ImageRecord], a: int, b: int) -> list[str]:
    return sorted(marks[records[a].image_id].keys() & marks[records[b].image_id].keys())


def _set(marks: Marks, records: Sequence[ImageRecord], a: int, b: int) -> Set:
    names = _shared(marks, records, a, b)
    places = []
    for at in (a, b):
        xy = np.array([marks[records[at].image_id][name] for name in names], np.float32)
        if outside(xy, records[at].size).any():
            image, size = records[at].image_id, "x".join(map(str, reversed(records[at].size)))
            raise DataError.at("labels", image, f"points on its {size} px", "one that lies outside", "correct it")
        places.append(torch.from_numpy(letterbox_points(xy, records[at].size)).float())
    return Set((a, b), (False, False), torch.stack(places, 1), torch.ones(len(names)))
