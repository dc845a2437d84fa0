"""PF-WILLOW: ten keypoints per image, pairs and points in one CSV list, threshold by the keypoints' extent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from geoalign.data.images import image_size
from geoalign.data.readers.csv_rows import coordinate, read_rows
from geoalign.data.readers.keypoints import checked_points, points_box
from geoalign.data.readers.listed import ListedPairs, columns
from geoalign.data.records import ImageRecord, Threshold
from geoalign.data.validation import Fields, plain_name

SLOTS = 10
LISTS = ("test_pairs.csv", "test_pairs_pf.csv")
COLUMNS = tuple(f"{axis}{side}{slot + 1}" for side in "AB" for axis in "XY" for slot in range(SLOTS))


class PFWillow(ListedPairs):
    """The 900 test pairs below ``root`` (``<category>/*.png`` and ``test_pairs.csv`` or ``test_pairs_pf.csv``).

    Columns are ``imageA, imageB, XA1..XA10, YA1..YA10, XB1..XB10, YB1..YB10``; A is the source. The category is the
    image's folder. An image's box is the extent of its keypoints (there are no others), so the usual ``box``
    threshold is the larger side of that extent in the target. Where a list gives one image two sets of points, the
    later set becomes a record of its own (``<id>#2``), and this is noted.

    Args:
        root: holds <category>/*.png and test_pairs.csv (or test_pairs_pf.csv)
        split: test; there is no other
        threshold: box: larger side of the target keypoints' extent | image: of the target image
        symmetry: a mirror table (yaml); null: none
        categories: categories to keep; null: all
        max_pairs: keep so many pairs, evenly spaced; null: all
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        threshold: Threshold = "box",
        symmetry: str | Path | None = None,
        name: str = "pf_willow",
        categories: Sequence[str] | None = None,
        max_pairs: int | None = None,
    ) -> None:
        root = Path(root)
        if split != "test":
            raise ValueError(f"PF-WILLOW has a test split only, got {split!r}")
        path = next((root / name for name in LISTS if (root / name).is_file()), root / LISTS[0])
        notes: list[str] = []
        records: dict[str, ImageRecord] = {}
        pairs: dict[tuple[str, str], str] = {}
        for row in read_rows(path, ("imageA", "imageB", *COLUMNS)):
            src, trg = (_image(root, row, side, records, notes) for side in "AB")
            if src.category != trg.category:
                raise row.fail("imageB", f"an image of {src.category}, as imageA", trg.image_id)
            if src is trg or (src.image_id, trg.image_id) in pairs:
                raise row.fail("imageB", "two images that are a pair once", trg.image_id)
            pairs[src.image_id, trg.image_id] = src.category
        super().__init__(
            root, name, split, threshold, SLOTS, *columns(records, pairs), symmetry, categories, max_pairs, notes=notes
        )


def _image(root: Path, row: Fields, side: str, records: dict[str, ImageRecord], notes: list[str]) -> ImageRecord:
    key = f"image{side}"
    parts = PurePosixPath(row.text(key).replace("\\", "/")).parts
    if len(parts) < 2 or ".." in parts:
        raise row.fail(key, "a path that ends in <category>/<file>, without '..'", row.text(key))
    category, file = (plain_name(part, row.file, f"{row.prefix}{key}") for part in parts[-2:])
    path = root / category / file
    cells = [[coordinate(row, f"{axis}{side}{slot + 1}") for axis in "XY"] for slot in range(SLOTS)]
    image_id = f"{category}/{PurePosixPath(file).stem}"
    size = records[image_id].size if image_id in records else image_size(path)
    xy, visible = checked_points(np.array(cells, dtype=float), SLOTS, size, row, f"X{side}, Y{side}")
    record = ImageRecord(image_id, path, size, category, xy, visible, points_box(xy, visible, size))
    return _distinct(record, row, records, notes)


def _distinct(record: ImageRecord, row: Fields, records: dict[str, ImageRecord], notes: list[str]) -> ImageRecord:
    """The known record with the same points, else the new one under a free id."""
    image_id, number = record.image_id, 1
    while image_id in records:
        other = records[image_id]
        if (other.visible == record.visible).all() and (other.xy_px == record.xy_px).all():
            return other
        number += 1
        image_id = f"{record.image_id}#{number}"
    if number > 1:
        notes.append(f"{row.file}: {row.prefix}other points for {record.image_id}: kept as {image_id}")
    records[image_id] = record._replace(image_id=image_id)
    return records[image_id]
