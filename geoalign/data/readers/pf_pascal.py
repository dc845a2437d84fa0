"""PF-PASCAL: keypoints from the MATLAB annotations, pairs from the three CSV lists, image-size threshold."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np

from geoalign.data.images import image_size
from geoalign.data.readers.csv_rows import read_rows
from geoalign.data.readers.keypoints import checked_box, checked_points, points_box
from geoalign.data.readers.listed import ListedPairs, columns
from geoalign.data.records import DataError, ImageRecord, Threshold, as_data_errors
from geoalign.data.validation import RESTORE, Fields, plain_name
from geoalign.files import read_bytes

CATEGORIES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
LISTS = {"train": ("train", "trn"), "val": ("val",), "test": ("test",)}

MOST_MAT_BYTES = 1 << 20
"""An annotation has a few hundred bytes; compressed ones grow at most a thousandfold."""


class PFPascal(ListedPairs):
    """The pairs of one split below ``root`` (``Annotations/<category>/*.mat``, ``JPEGImages/``, the CSV lists).

    A pair's points are its images' own annotations, by slot; the coordinates that the lists repeat are not read.
    Rows with ``flip`` 1 (mirrored repetitions in some training lists) are left out and noted: mirroring is the
    augmentation's work. Boxes are the annotation's ``bbox``, else the extent of the keypoints.

    Args:
        root: holds Annotations/, JPEGImages/, {train,val,test}_pairs_pf_pascal.csv
        split: train | val | test
        threshold: image: max(height, width) of the target image | box: of its box
        slots: keypoints an image may have
        symmetry: a mirror table (yaml); null: none, so no flips in training or alignment
        categories: categories to keep; null: all
        max_pairs: keep so many pairs, evenly spaced; null: all
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        threshold: Threshold = "image",
        slots: int = 20,
        symmetry: str | Path | None = None,
        name: str = "pf_pascal",
        categories: Sequence[str] | None = None,
        max_pairs: int | None = None,
    ) -> None:
        root, split = Path(root), {"trn": "train"}.get(split, split)
        if split not in LISTS:
            raise ValueError(f"split is train (trn), val or test, got {split!r}")
        notes: list[str] = []
        records, pairs = _read_list(root, _list_path(root, split), slots, notes)
        super().__init__(
            root, name, split, threshold, slots, *columns(records, pairs), symmetry, categories, max_pairs, notes=notes
        )


def _read_list(
    root: Path, path: Path, slots: int, notes: list[str]
) -> tuple[dict[str, ImageRecord], dict[tuple[str, str], str]]:
    """The images by id, and the category of each pair of ids."""
    records: dict[str, ImageRecord] = {}
    pairs: dict[tuple[str, str], str] = {}
    mirrored = 0
    for row in read_rows(path, ("source_image", "target_image", "class")):
        category = _category(row)
        if "flip" in row and row.text("flip", ("0", "1")) == "1":
            mirrored += 1
            continue
        src, trg = (_image(root, category, row, key, slots, records, notes) for key in ("source_image", "target_image"))
        if src == trg or (src, trg) in pairs:
            raise row.fail("target_image", "two images that are a pair once", row.text("target_image"))
        pairs[src, trg] = category
    if mirrored:
        notes.append(f"{path}: flip: {mirrored} mirrored repetitions left out")
    return records, pairs


def _list_path(root: Path, split: str) -> Path:
    paths = [root / f"{stem}_pairs_pf_pascal.csv" for stem in LISTS[split]]
    return next((path for path in paths if path.is_file()), paths[0])


def _category(row: Fields) -> str:
    text = row.text("class")
    if text.isdecimal() and text.isascii() and 1 <= int(text) <= len(CATEGORIES):
        return CATEGORIES[int(text) - 1]
    if text not in CATEGORIES:
        raise row.fail("class", f"1..{len(CATEGORIES)} or a category's name", text)
    return text


def _image(
    root: Path, category: str, row: Fields, key: str, slots: int, records: dict[str, ImageRecord], notes: list[str]
) -> str:
    """The id of the image that a row names; its record is read when first met."""
    file = plain_name(PurePosixPath(row.text(key).replace("\\", "/")).name, row.file, f"{row.prefix}{key}")
    stem = PurePosixPath(file).stem
    image_id, path = f"{category}/{stem}", root / "JPEGImages" / file
    if image_id not in records:
        fields = read_mat(root / "Annotations" / category / f"{stem}.mat")
        size = image_size(path)
        xy, visible = checked_points(_array(fields, "kps"), slots, size, fields, "kps")
        box = points_box(xy, visible, size)
        if "bbox" in fields:
            box = checked_box(fields, "bbox", _array(fields, "bbox").reshape(-1).tolist(), size, notes)
        records[image_id] = ImageRecord(image_id, path, size, category, xy, visible, box)
    return image_id


def read_mat(path: Path) -> Fields:
    """The variables of a MATLAB file (up to version 7); raises ``DataError``."""
    from scipy.io import loadmat

    with as_data_errors():
        content = read_bytes(path, MOST_MAT_BYTES, RESTORE)
    try:
        return Fields(path, loadmat(BytesIO(content)))
    except Exception as error:  # of about fifteen types on malformed files
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError.at(path, "file", "a MATLAB file of version 7 or older", reason, RESTORE) from error


def _array(fields: Fields, key: str) -> np.ndarray:
    value = np.asarray(fields.value(key))
    if value.dtype.kind not in "iuf" or np.isinf(value.astype(float)).any():
        raise fields.fail(key, "finite numbers (NaN where absent)", f"{value.dtype} of shape {value.shape}")
    return value.astype(np.float64)
