"""People's own images: a directory, optionally with keypoints, mirror tables and masks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from geoalign.data.batch.draws import lowest, mixed, rank_key
from geoalign.data.images import image_size
from geoalign.data.readers.folder_points import Marked, read_points
from geoalign.data.readers.keypoints import ABSENT, checked_points, is_near, points_box
from geoalign.data.readers.listed import ListedPairs
from geoalign.data.records import DataError, ImageRecord, Threshold
from geoalign.data.symmetry_table import read_symmetries
from geoalign.data.validation import Fields

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
SPLITS = ("train", "val", "test")
MOST_SLOTS = 1000


class ImageFolder(ListedPairs):
    """All ordered pairs of images of a category below ``root``; with keypoints, those that share ``min_common``.

    The category is the keypoint file's, else the image's folder, else ``category``. Slots follow ``names``, else the
    names of the category's ``symmetry`` table, else slot numbers, else the order in which names first appear. The split
    is the file's ``split`` column, else drawn by ``seed`` and name. Images that the keypoint file does not name are
    left out and noted.

    Args:
        root: images, directly or in one folder per category
        split: all | train | val | test
        keypoints: CSV (image,keypoint,x,y and optionally visible,split,category) or JSON, below root; null: none
        symmetry: mirror table (yaml), below root or a built-in name; null: none
        names: keypoint names by slot; null: the table's, else as they first appear
        category: of images that lie directly in root
        masks: folder below root with <same path>.png; null: none
        threshold: image: max(height, width) of the target image | box: of its box
        fractions: of train, val and test of each category where the file has no split column
        min_common: keypoints a pair must share
        max_pairs: draw so many pairs without replacement; null: all
        seed: of the split and the draw
        categories: categories to keep; null: all
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "all",
        keypoints: str | Path | None = None,
        symmetry: str | Path | None = None,
        names: Sequence[str] | None = None,
        category: str = "object",
        masks: str | Path | None = None,
        threshold: Threshold = "image",
        fractions: Sequence[float] = (0.7, 0.1, 0.2),
        min_common: int = 1,
        max_pairs: int | None = None,
        seed: int = 42,
        categories: Sequence[str] | None = None,
        name: str = "folder",
    ) -> None:
        root, notes = Path(root), list[str]()
        if split not in ("all", *SPLITS) or len(fractions) != 3 or abs(sum(fractions) - 1) > 1e-6 or min(fractions) < 0:
            raise ValueError(f"split is all, {', '.join(SPLITS)} and fractions sum to 1; got {split!r}, {fractions}")
        if symmetry is not None and (root / symmetry).exists():
            symmetry = root / symmetry
        marks = _marks(root, keypoints, root / masks if masks is not None else None, category, notes)
        order = _slot_order(marks.values(), names, symmetry)
        slots = max(1, *(len(slot) for slot in order.values()))
        splits = _splits(marks, fractions, seed)
        chosen = [image for image in marks if split in ("all", splits[image])]
        if categories is not None:
            chosen = [image for image in chosen if marks[image].category in categories]
        records = [_record(root, image, marks[image], order[marks[image].category], slots, masks) for image in chosen]
        src, trg = _pairs(records, min_common if keypoints is not None else 0, max_pairs, seed)
        super().__init__(
            root, name, split, threshold, slots, records, src, trg,
            np.array([records[i].category for i in src], np.str_), symmetry, categories, notes=notes,
        )  # fmt: skip


def image_files(root: Path, left_out: Path | None = None) -> list[Path]:
    """Files below ``root`` that are named as images, sorted; none that is hidden or lies in ``left_out``.

    Raises:
        DataError: there is none.
    """
    if not root.is_dir():
        raise DataError.at(root, "root", "a folder of images", "no such folder", "correct the path")
    files = [p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and left_out not in p.parents and p.is_file()]
    shown = sorted(p for p in files if not any(part.startswith(".") for part in p.relative_to(root).parts))
    if not shown:
        raise DataError.at(root, "images", f"files of {', '.join(SUFFIXES)}", "none", "correct the path")
    return shown


def _marks(
    root: Path, keypoints: str | Path | None, masks: Path | None, category: str, notes: list[str]
) -> dict[str, Marked]:
    """Every image to use, sorted by path, with its category filled in."""
    files = [path.relative_to(root).as_posix() for path in image_files(root, masks)]
    marks = {i: Marked(Fields(root / i, {}), {}) for i in files} if keypoints is None else read_points(root / keypoints)
    if not marks:
        raise DataError.at(root / str(keypoints), "images", "at least one", "none", "correct the keypoint file")
    notes += [f"{root / image}: not in {keypoints}: left out" for image in files if image not in marks]
    folders = {image: PurePosixPath(image).parent.name for image in marks}
    return {i: marks[i]._replace(category=marks[i].category or folders[i] or category) for i in sorted(marks)}


def _slot_order(
    marks: Iterable[Marked], names: Sequence[str] | None, symmetry: str | Path | None
) -> dict[str, dict[str, int]]:
    """Per category, the slot of each keypoint name."""
    by_category: dict[str, dict[str, None]] = defaultdict(dict)
    for marked in marks:
        by_category[marked.category] |= dict.fromkeys(marked.points)
    tables = read_symmetries(symmetry, MOST_SLOTS, by_category) if symmetry else {}
    order: dict[str, dict[str, int]] = {}
    for category, used in by_category.items():
        fixed = names if names is not None else tables[category].names if category in tables else ()
        if not fixed and used and all(name.isdecimal() and name.isascii() and len(name) < 4 for name in used):
            fixed = [str(slot) for slot in range(max(map(int, used)) + 1)]
        order[category] = {name: slot for slot, name in enumerate(fixed or used)}
    return order


def _splits(marks: Mapping[str, Marked], fractions: Sequence[float], seed: int) -> dict[str, str]:
    """Every image's split: what the file says, else a seeded share of its category."""
    if any(marked.split for marked in marks.values()):
        for marked in marks.values():
            if marked.split not in SPLITS:
                raise marked.where.fail("split", f"one of {', '.join(SPLITS)} for every image", marked.split)
        return {image: marked.split for image, marked in marks.items()}
    by_category: dict[str, list[str]] = defaultdict(list)
    for image in sorted(marks, key=lambda image: rank_key(seed, image)):
        by_category[marks[image].category].append(image)
    place: dict[str, str] = {}
    for images in by_category.values():
        ends = (np.cumsum(fractions) * len(images)).round().astype(int)
        place.update({image: SPLITS[int((rank >= ends[:2]).sum())] for rank, image in enumerate(images)})
    return place


def _record(
    root: Path, image: str, marked: Marked, order: Mapping[str, int], slots: int, masks: str | Path | None
) -> ImageRecord:
    path = root / image
    size = image_size(path)
    values = np.full((slots, 2), np.nan)
    for name, point in marked.points.items():
        if name not in order:
            raise marked.where.fail(name, f"a keypoint of {marked.category}: {', '.join(order)}", name)
        values[order[name]] = point or ABSENT
    xy, visible = checked_points(values, slots, size, marked.where, "points")
    box = marked.box_px or points_box(xy, visible, size)
    if not (is_near(box[0], box[1], size) and is_near(box[2], box[3], size)):
        raise marked.where.fail("bbox", f"a box in or near the {size[1]}x{size[0]} image", box)
    mask = root / masks / PurePosixPath(image).with_suffix(".png") if masks is not None else None
    if mask is not None and not mask.is_file():
        raise DataError.at(mask, "mask", f"the mask of {image}", "no such file", "add it or set masks to null")
    image_id = PurePosixPath(image).as_posix()
    return ImageRecord(image_id, path, size, marked.category, xy, visible, box, mask_path=mask)


def _pairs(records: Sequence[ImageRecord], common: int, most: int | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ordered pairs of different images of a category that share ``common`` points, as two index columns."""
    kinds = np.array([record.category for record in records], np.str_)
    ends = [np.empty((0, 2), np.int64)]
    for kind in sorted(set(kinds.tolist())):
        own = np.flatnonzero(kinds == kind)
        seen = np.array([records[i].visible for i in own.tolist()], np.float32)
        allowed = (seen @ seen.T >= common) & ~np.eye(len(own), dtype=bool)
        ends.append(own[np.argwhere(allowed)])
    src, trg = np.concatenate(ends).T
    if most is not None and len(src) > most:
        keep = lowest(mixed(seed, src, trg), max(1, most))
        src, trg = src[keep], trg[keep]
    return src, trg
