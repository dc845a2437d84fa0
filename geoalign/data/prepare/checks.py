"""What is checked of an image, a pair and an annotation file; each check gives findings, none stops at the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from geoalign.data.images import open_mask, open_rgb
from geoalign.data.readers.pf_pascal import read_mat
from geoalign.data.readers.spair import SPair71k
from geoalign.data.readers.spair_annotations import read_image
from geoalign.data.records import DataError, ImageRecord, PairSource, pck_size_px


class Finding(NamedTuple):
    """Something noticed: an ``error`` fails the verification, an ``oddity`` is only reported."""

    severity: Literal["error", "oddity"]
    kind: str
    where: str
    detail: str = ""


error, oddity = partial(Finding, "error"), partial(Finding, "oddity")


def check_image(record: ImageRecord) -> list[Finding]:
    """The picture and mask open at the annotated size; points and box are sane and inside."""
    return [*_opens(record), *(list(_wrong_values(record)) or _outside(record))]


def check_pairs(source: PairSource) -> list[Finding]:
    """Pairs have distinct ids, two images, common keypoints and a size that PCK can be relative to."""
    findings, ids, ends = [], Counter[str](), Counter[tuple[str, str]]()
    for pair in source:
        ids[pair.pair_id] += 1
        ends[pair.src.image_id, pair.trg.image_id] += 1
        if not pair.visible.any():
            findings.append(oddity("pair without a common keypoint (never counts)", pair.pair_id))
        if pair.src.image_id == pair.trg.image_id:
            findings.append(oddity("image paired with itself", pair.pair_id))
        if not pck_size_px(pair.trg, source.threshold) > 0:
            findings.append(error("size", pair.pair_id, "PCK is relative to a size above zero, got zero"))
    findings += [
        error("pair id", key, f"should be unique, {count} pairs have it") for key, count in ids.items() if count > 1
    ]
    findings += [oddity("pair listed again", f"{a} > {b}") for (a, b), count in ends.items() if count > 1]
    return findings


def check_annotation(path: Path, slots: int = 30) -> list[Finding]:
    """One ``ImageAnnotation`` file of the SPair layout: every key, its type and its range."""
    notes: list[str] = []
    try:
        read_image(path, slots, path.parent, notes)
    except DataError as wrong:
        return [error("annotation", str(wrong))]
    return [oddity("repaired while reading", note) for note in notes]


def check_mat(path: Path) -> list[Finding]:
    """One annotation of PF-PASCAL: it opens and holds keypoints ``(n 2)``."""
    try:
        points = np.asarray(read_mat(path).value("kps"))
    except DataError as wrong:
        return [error("annotation", str(wrong))]
    if points.ndim == 2 and points.shape[1] == 2 and points.dtype.kind in "iuf":
        return []
    return [error("annotation", str(path), f"kps should be numbers (n 2), got {points.dtype} {points.shape}")]


def check_pair_file(source: SPair71k, index: int) -> list[Finding]:
    """One ``PairAnnotation`` file of the SPair layout says what the image annotations say."""
    try:
        return [error("pair annotation", text) for text in source.check_pair_file(index)]
    except DataError as wrong:
        return [error("pair annotation", str(wrong))]


def stray_pair_files(source: SPair71k) -> list[Finding]:
    """Pair files that no list names."""
    folder = source.root / "PairAnnotation" / source.split
    if not folder.is_dir():
        return [oddity("no pair files to compare the list with", str(folder))]
    listed = {pair.pair_id for pair in source}
    strays = sorted({path.stem for path in folder.glob("*.json")} - listed)
    return [oddity("pair file that is not listed", f"{folder / name}.json") for name in strays]


def _opens(record: ImageRecord) -> Iterator[Finding]:
    try:
        open_rgb(record.path, record.size)
        if record.mask_path is not None and not open_mask(record.mask_path, record.size).any():
            yield oddity("empty mask", str(record.mask_path))
    except DataError as wrong:
        yield error("image", str(wrong))


def _wrong_values(record: ImageRecord) -> Iterator[Finding]:
    where = record.image_id
    slots = len(record.visible)
    if record.xy_px.shape != (slots, 2) or record.visible.dtype != bool:
        yield error("keypoints", where, f"should be ({slots}, 2) with bools, got {record.xy_px.shape}")
    elif not np.isfinite(record.xy_px).all() or record.xy_px[~record.visible].any():
        yield error("keypoints", where, "should be finite, and zero where not visible")
    x1, y1, x2, y2 = record.box_px
    if not (x2 > x1 and y2 > y1):
        yield error("box", where, f"should have width and height, got {record.box_px}")
    if not -1 <= record.azimuth <= 7:
        yield error("azimuth", where, f"should be 0..7, or -1 for unknown, got {record.azimuth}")


def _outside(record: ImageRecord) -> Iterator[Finding]:
    """Oddities of real data: a few pixels of overshoot."""
    (h, w), (x1, y1, x2, y2) = record.size, record.box_px
    points = record.xy_px[record.visible]
    if not len(points):
        yield oddity("image without visible keypoints", record.image_id)
    elif (over := _overshoot(points, (0.0, 0.0, float(w), float(h)))) > 0:
        yield oddity("keypoint outside the image", record.image_id, f"by {over:.1f} px")
    if len(points) and (over := _overshoot(points, record.box_px)) > 1:  # boxes count from 1, points from 0
        yield oddity("keypoint outside the box", record.image_id, f"by {over:.1f} px")
    if (over := _overshoot(np.array([[x1, y1], [x2, y2]]), (0.0, 0.0, float(w), float(h)))) > 0:
        yield oddity("box beyond the image", record.image_id, f"by {over:.1f} px")


def _overshoot(points: np.ndarray, box: tuple[float, float, float, float]) -> float:
    """How far, in pixels, the farthest point lies outside a box along one axis."""
    x1, y1, x2, y2 = box
    return float(max((np.array([x1, y1]) - points).max(), (points - np.array([x2, y2])).max()))


ANNOTATIONS: dict[str, tuple[tuple[str, ...], Callable[[Path], list[Finding]]]] = {
    "spair": (("ImageAnnotation/*/*.json", "ExtraImageAnnotation/*/*.json"), check_annotation),
    "pf_pascal": (("Annotations/*/*.mat",), check_mat),
}
"""Per layout: where the annotation files lie, and the check of one."""
