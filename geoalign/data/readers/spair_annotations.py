"""The files of SPair-71k's layout: pair lists, image annotations, and the pair files that repeat them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from geoalign.data.readers.keypoints import ABSENT, checked_box, checked_points
from geoalign.data.records import DataError, ImageRecord, PairRecord
from geoalign.data.validation import RESTORE, Fields, plain_name, read_object, read_text

LINE = re.compile(r"(?P<number>[0-9]+)-(?P<src>[^-:]+)-(?P<trg>[^-:]+):(?P<category>[^:]+)")
"""A pair's name, as in the Layout lists: ``000001-2008_000133-2008_008368:bicycle``."""


class ListedPair(NamedTuple):
    """An entry of a list of pairs: its whole text, and the images' category and names without extension."""

    name: str
    category: str
    src: str
    trg: str


def read_list(path: Path, annotations: Path) -> list[ListedPair]:
    """The pairs of a Layout file or of a folder of pair files, of categories with a folder in ``annotations``.

    Raises:
        DataError: an entry that is no pair's name, an unknown category, a pair listed twice, or no pair at all.
    """
    categories = sorted(p.name for p in annotations.iterdir() if p.is_dir())
    pairs: list[ListedPair] = []
    seen: dict[str, str] = {}
    for place, name in _entries(path):
        match = LINE.fullmatch(name)
        if match is None:
            raise DataError.at(path, place, "<number>-<source>-<target>:<category>", name, "correct the list")
        src, trg = (plain_name(match[part], path, f"{place} ({part})") for part in ("src", "trg"))
        if match["category"] not in categories:
            got = f"{match['category']!r}; known are {', '.join(categories)}"
            raise DataError.at(path, place, "a category with image annotations", got, "correct the list")
        if name in seen:
            raise DataError.at(path, place, "every pair once", f"{seen[name]} again: {name}", "remove one of them")
        seen[name] = place
        pairs.append(ListedPair(name, match["category"], src, trg))
    if not pairs:
        raise DataError.at(path, "list", "at least one pair", "none", RESTORE)
    return pairs


def read_image(path: Path, slots: int, images_root: Path, notes: list[str]) -> ImageRecord:
    """One checked image annotation, ``<category>/<name>.json``; repairs are added to ``notes``.

    A missing or null azimuth is unknown (-1). Raises ``DataError`` naming the field.
    """
    category = path.parent.name
    fields = read_object(path)
    fields.text("category", [category])
    file = plain_name(fields.text("filename"), path, "filename")
    if Path(file).stem != path.stem:
        raise fields.fail("filename", f"the image of this annotation, {path.stem}.*", file, "correct the field")
    size = fields.size("image_width", "image_height")
    kps = fields.child("kps")
    if stray := sorted(set(kps.data) - {str(slot) for slot in range(slots)}):
        raise fields.fail("kps", f'slots "0".."{slots - 1}"', stray[:5])
    points = np.array([kps.point(str(slot)) or ABSENT for slot in range(slots)])
    xy, visible = checked_points(points, slots, size, fields, "kps")
    box = checked_box(fields, "bndbox", fields.numbers("bndbox", 4), size, notes)
    azimuth = fields.integer("azimuth_id", 0, 7) if "azimuth_id" in fields else -1
    picture, mask = (images_root / kind / category for kind in ("JPEGImages", "Segmentation"))
    mask /= f"{path.stem}.png"
    return ImageRecord(
        f"{category}/{path.stem}", picture / file, size, category, xy, visible, box, azimuth,
        mask if mask.exists() else None,
    )  # fmt: skip


def check_pair(fields: Fields, pair: PairRecord) -> list[str]:
    """What a pair's own annotation says otherwise than its image annotations; empty when they agree."""
    both = np.flatnonzero(pair.visible).tolist()
    claims: list[tuple[str, object, object]] = [("kps_ids", fields.items("kps_ids"), [str(slot) for slot in both])]
    for side, image in (("src", pair.src), ("trg", pair.trg)):
        claims += [
            (f"{side}_imname", fields.text(f"{side}_imname"), image.path.name),
            (f"{side}_imsize", fields.items(f"{side}_imsize")[:2], list(image.size[::-1])),
            (f"{side}_bndbox", fields.items(f"{side}_bndbox", 4), list(image.box_px)),
            (f"{side}_kps", fields.items(f"{side}_kps"), image.xy_px[both].tolist()),
        ]
    return [f"{key}: the pair says {own}, the images say {other}" for key, own, other in claims if own != other]


def _entries(path: Path) -> Iterator[tuple[str, str]]:
    """Where and what: the lines of a list (blank ones passed over) or the sorted files of a folder."""
    if path.is_dir():
        yield from ((file.name, file.stem) for file in sorted(path.glob("*.json")))
        return
    for at, line in enumerate(read_text(path).split("\n"), start=1):
        if line:
            yield f"line {at}", line
