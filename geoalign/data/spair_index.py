"""The SPair-71k layout's annotations, parsed into arrays."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from geoalign.data.records import DataError
from geoalign.data.validation import Fields, plain_name, read_object, read_text

LINE = re.compile(r"(?P<number>[^-:]+)-(?P<src>[^-:]+)-(?P<trg>[^-:]+):(?P<category>[^:]+)")
"""One line of a Layout list: ``000001-2008_000133-2008_008368:bicycle``."""


class SPairIndex(NamedTuple):
    """Everything the annotations say; strings are numpy unicode arrays so that the index can be cached."""

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


def build_index(annotations: Path, layout: Path, slots: int) -> SPairIndex:
    """Read the list ``layout`` and the annotation of every image it names below ``annotations``."""
    categories = sorted(p.name for p in annotations.iterdir() if p.is_dir())
    number, pairs = [], []
    for name, src, trg, category in read_layout(layout, categories):
        number.append(name)
        pairs.append(((category, src), (category, trg)))
    keys = sorted({key for pair in pairs for key in pair})
    place = {key: i for i, key in enumerate(keys)}
    notes = _repeated(layout, pairs)
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
        number=np.array(number),
        src=np.array([place[src] for src, _ in pairs], np.int64),
        trg=np.array([place[trg] for _, trg in pairs], np.int64),
        notes=np.array(notes, dtype=np.str_),
    )


def read_layout(path: Path, categories: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """``(number, src, trg, category)`` per line; blank lines are passed over, everything else must parse."""
    rows, seen = [], dict[str, int]()
    for at, line in enumerate((text.rstrip("\r") for text in read_text(path).split("\n")), start=1):
        if not line:
            continue
        match = LINE.fullmatch(line)
        if match is None:
            raise DataError.at(path, f"line {at}", "<number>-<source>-<target>:<category>", line, "correct the list")
        for part in ("src", "trg"):
            plain_name(match[part], path, f"line {at} ({part})")
        if match["category"] not in categories:
            got = f"{match['category']!r}; known are {', '.join(categories)}"
            raise DataError.at(path, f"line {at}", "a category with image annotations", got, "correct the list")
        if line in seen:
            raise DataError.at(path, f"line {at}", "every pair once", f"line {seen[line]} again: {line}", "remove one")
        seen[line] = at
        rows.append((match["number"], match["src"], match["trg"], match["category"]))
    if not rows:
        raise DataError.at(path, "list", "one pair a line", "no pairs", "restore the file from the dataset's archive")
    return rows


def read_image(path: Path, category: str, slots: int, notes: list[str]) -> ImageFields:
    """One checked image annotation; repairs are added to ``notes``."""
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


def check_pair(fields: Fields, index: SPairIndex, at: int) -> list[str]:
    """What the pair annotation ``fields`` says otherwise than the image annotations; empty when they agree."""
    return [problem for side in ("src", "trg") for problem in _check_side(fields, index, at, side)]


def _check_side(fields: Fields, index: SPairIndex, at: int, side: str) -> list[str]:
    i = int(getattr(index, side)[at])
    ids = [int(k) if isinstance(k, str) and k.isdecimal() else -1 for k in fields.items("kps_ids")]
    both = np.flatnonzero(index.visible[index.src[at]] & index.visible[index.trg[at]]).tolist()
    h, w = index.size[i].tolist()
    expected = {
        "kps_ids": (sorted(ids), both),
        f"{side}_imname": (fields.text(f"{side}_imname"), str(index.files[i])),
        f"{side}_imsize": (fields.items(f"{side}_imsize")[:2], [w, h]),
        f"{side}_bndbox": (fields.items(f"{side}_bndbox", 4), index.box_px[i].tolist()),
        f"{side}_kps": (
            fields.items(f"{side}_kps"),
            index.xy_px[i, [k for k in ids if 0 <= k < len(index.visible[i])]].tolist(),
        ),
    }
    return [f"{key}: the pair says {a}, the images say {b}" for key, (a, b) in expected.items() if a != b]


def _repeated(layout: Path, pairs: Sequence[tuple[object, object]]) -> list[str]:
    repeats = len(pairs) - len(set(pairs))
    return [f"{layout}: {repeats} pairs are listed again under another number; each entry counts"] if repeats else []
