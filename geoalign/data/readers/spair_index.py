"""The annotations of datasets in SPair-71k's layout, parsed into arrays."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from geoalign.data.records import DataError, PairRecord
from geoalign.data.validation import Fields, plain_name, read_object, read_text

LINE = re.compile(r"(?P<number>[0-9]+)-(?P<src>[^-:]+)-(?P<trg>[^-:]+):(?P<category>[^:]+)")
"""A pair's name, as in the Layout lists: ``000001-2008_000133-2008_008368:bicycle``."""


class SPairIndex(NamedTuple):
    """Everything the annotations say; only arrays, so that the index can be cached."""

    names: np.ndarray  # (i) image names without extension
    files: np.ndarray  # (i) image file names
    category: np.ndarray  # (i) category names
    size: np.ndarray  # (i 2) h w
    xy_px: np.ndarray  # (i n 2)
    visible: np.ndarray  # (i n)
    box_px: np.ndarray  # (i 4)
    azimuth: np.ndarray  # (i)
    number: np.ndarray  # (p) pair numbers as in the list
    src: np.ndarray  # (p) image indices
    trg: np.ndarray  # (p)
    notes: np.ndarray  # repairs and oddities, one sentence each


class ImageFields(NamedTuple):
    """One image annotation."""

    file: str
    size: tuple[int, int]
    xy_px: np.ndarray
    visible: np.ndarray
    box_px: tuple[float, float, float, float]
    azimuth: int


def build_index(annotations: Path, pair_list: Path, slots: int) -> SPairIndex:
    """Read ``pair_list`` (a Layout file or a folder of pair files) and the annotation of every image it names."""
    categories = sorted(p.name for p in annotations.iterdir() if p.is_dir())
    rows = parse_names(pair_list, _pair_names(pair_list), categories)
    pairs = [((category, src), (category, trg)) for _, src, trg, category in rows]
    keys = sorted({key for pair in pairs for key in pair})
    place = {key: i for i, key in enumerate(keys)}
    notes = _repeated(pair_list, pairs)
    images = [read_image(annotations / category / f"{name}.json", category, slots, notes) for category, name in keys]
    return SPairIndex(
        names=np.array([name for _, name in keys]),
        files=np.array([image.file for image in images]),
        category=np.array([category for category, _ in keys]),
        size=np.array([image.size for image in images], np.int64),
        xy_px=np.stack([image.xy_px for image in images]),
        visible=np.stack([image.visible for image in images]),
        box_px=np.array([image.box_px for image in images], np.float64),
        azimuth=np.array([image.azimuth for image in images], np.int64),
        number=np.array([row[0] for row in rows]),
        src=np.array([place[src] for src, _ in pairs], np.int64),
        trg=np.array([place[trg] for _, trg in pairs], np.int64),
        notes=np.array(notes, dtype=np.str_),
    )


def parse_names(
    path: Path, names: Iterable[tuple[str, str]], categories: Sequence[str]
) -> list[tuple[str, str, str, str]]:
    """``(number, src, trg, category)`` of every ``(place, name)``; each must parse and appear once."""
    rows, seen = [], dict[str, str]()
    for place, name in names:
        match = LINE.fullmatch(name)
        if match is None:
            raise DataError.at(path, place, "<number>-<source>-<target>:<category>", name, "correct the list")
        for part in ("src", "trg"):
            plain_name(match[part], path, f"{place} ({part})")
        if match["category"] not in categories:
            got = f"{match['category']!r}; known are {', '.join(categories)}"
            raise DataError.at(path, place, "a category with image annotations", got, "correct the list")
        if name in seen:
            raise DataError.at(path, place, "every pair once", f"{seen[name]} again: {name}", "remove one of them")
        seen[name] = place
        rows.append((match["number"], match["src"], match["trg"], match["category"]))
    if not rows:
        raise DataError.at(path, "list", "at least one pair", "none", "restore it from the dataset's archive")
    return rows


def read_image(path: Path, category: str, slots: int, notes: list[str]) -> ImageFields:
    """One checked image annotation; repairs are added to ``notes``. A missing or null azimuth is unknown (-1)."""
    fields = read_object(path)
    fields.text("category", [category])
    file = plain_name(fields.text("filename"), path, "filename")
    if Path(file).stem != path.stem:
        raise fields.fail("filename", f"the image of this annotation, {path.stem}.*", file, "correct the field")
    size = fields.size("image_width", "image_height")
    xy, visible = fields.points("kps", slots, size)
    box = fields.box("bndbox", size, notes)
    azimuth = fields.integer("azimuth_id", 0, 7) if "azimuth_id" in fields else -1
    return ImageFields(file, size, xy, visible, box, azimuth)


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


def _pair_names(path: Path) -> list[tuple[str, str]]:
    """Where and what: the lines of a list (blank ones passed over) or the sorted files of a folder."""
    if path.is_dir():
        return [(p.name, p.stem) for p in sorted(path.glob("*.json"))]
    lines = (line.rstrip("\r") for line in read_text(path).split("\n"))
    return [(f"line {at}", line) for at, line in enumerate(lines, start=1) if line]


def _repeated(path: Path, pairs: Sequence[tuple[object, object]]) -> list[str]:
    repeats = len(pairs) - len(set(pairs))
    return [f"{path}: {repeats} pairs are listed again under another number; each entry counts"] if repeats else []
