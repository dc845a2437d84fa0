"""Pseudo-labels: what matches of features say, as a training source; one parquet file, and the images it names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from geoalign.data.readers.listed import ListedPairs
from geoalign.data.records import DataError, ImageRecord
from geoalign.files import replacing

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
KEY = b"geoalign"
COLUMNS = {
    "set": "int64", "image": "str", "mirrored": "bool", "point": "int64", "x": "float32", "y": "float32",
    "weight": "float32",
}  # fmt: skip
"""One row per point of an image of a set; ``x`` and ``y`` are px of the image as it is, also where it is mirrored."""


class PseudoFile(NamedTuple):
    """The rows; what is known of each image (path below a root, size, category, box); and how the rows were made."""

    table: pd.DataFrame
    images: Mapping[str, Mapping[str, Any]]
    protocol: Mapping[str, Any]


class PseudoLabels(ListedPairs):
    """Sets of images with points that match; any two images of a set are a pair.

    A set's image that is ``mirrored`` stands there as its mirror image, which shows its other side. Points have no
    names and no mirror partners: rows of kind ``self`` and ``single`` would be wrong, set their weights to 0.

    Args:
        labels: the file that ``geoalign label`` writes
        root: the folder that its paths are relative to
        points: at most so many of a set, drawn by seed
        max_sets: keep so many sets, evenly spaced; null: all
        seed: of the points drawn

    Raises:
        DataError: no such file, another kind of file, rows that contradict each other, or a missing picture.
    """

    def __init__(
        self,
        labels: str | Path,
        root: str | Path,
        points: int = 32,
        max_sets: int | None = None,
        seed: int = 0,
        name: str = "pseudo",
        require_images: bool = True,
    ) -> None:
        if points < 2 or (max_sets is not None and max_sets < 1):
            raise ValueError(f"points is at least 2, and max_sets at least 1 or null; got {points} and {max_sets}")
        self.file = read_pseudo(labels)
        self._sets: list[list[int]] = []
        records: list[ImageRecord] = []
        sets = list(self.file.table.groupby("set", sort=True))
        if max_sets is not None and max_sets < len(sets):
            sets = [sets[at * len(sets) // max_sets] for at in range(max_sets)]
        for number, rows in sets:
            own = [*_records(rows, self.file.images, Path(root), points, np.random.default_rng([seed, int(number)]))]
            self._sets.append(list(range(len(records), len(records) + len(own))))
            records += own
        ends = np.array([(a, b) for own in self._sets for a in own for b in own if a != b], np.int64).reshape(-1, 2)
        category = np.array([records[a].category for a in ends[:, 0]], np.str_)
        super().__init__(
            Path(root), name, "trn", "box", points, records, ends[:, 0], ends[:, 1], category,
            require_images=require_images,
        )  # fmt: skip

    def cliques(self) -> Sequence[Sequence[int]]:
        """The sets."""
        return self._sets

    def fingerprint(self) -> str:
        """SHA-256 of what :class:`ListedPairs` counts, the weights, and which images are mirrored."""
        digest = hashlib.sha256(super().fingerprint().encode())
        for record in self.images:
            digest.update(repr(record.mirrored).encode() + np.asarray(record.weight, "<f4").tobytes())
        return digest.hexdigest()


def _records(
    rows: pd.DataFrame, images: Mapping[str, Mapping[str, Any]], root: Path, most: int, rng: np.random.Generator
) -> list[ImageRecord]:
    """An image of a set after the other, with at most ``most`` of the set's points in the same slots."""
    every = np.unique(rows["point"])
    slot = {int(point): at for at, point in enumerate(np.sort(rng.permutation(every)[:most]))}
    records = []
    for image_id, own in rows[rows["point"].isin(slot)].groupby("image", sort=False):
        facts, at = images[str(image_id)], own["point"].map(slot).to_numpy()
        xy, weight, visible = np.zeros((most, 2), np.float32), np.zeros(most, np.float32), np.zeros(most, bool)
        xy[at], weight[at], visible[at] = own[["x", "y"]].to_numpy(), own["weight"].to_numpy(), True
        path, (h, w), box = root / facts["path"], facts["size"], tuple(float(v) for v in facts["box"])
        records.append(ImageRecord(
            str(image_id), path, (int(h), int(w)), facts["category"], xy, visible, box,  # type: ignore[arg-type]
            mirrored=bool(own["mirrored"].iloc[0]), weight=weight,
        ))  # fmt: skip
    return records


def write_pseudo(path: str | Path, file: PseudoFile) -> None:
    """Checked rows with their images and protocol; the file appears whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    _check(file, Path(path))
    about = json.dumps({"format": FORMAT, "images": file.images, "protocol": file.protocol}).encode()
    table = pa.Table.from_pandas(file.table[list(COLUMNS)], preserve_index=False)
    with replacing(path) as partial:
        pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), KEY: about}), partial)


def read_pseudo(path: str | Path) -> PseudoFile:
    """Read and check a file of pseudo-labels; :class:`DataError` for what is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, remedy = Path(path), "write it with: geoalign label"
    if not path.is_file():
        raise DataError.at(path, "labels", "a file of pseudo-labels", "no such file", remedy)
    try:
        table = pq.read_table(path)
        about = json.loads((table.schema.metadata or {}).get(KEY, b"{}"))
    except (pa.ArrowInvalid, ValueError) as error:
        raise DataError.at(path, "labels", "a parquet file", str(error), remedy) from error
    if about.get("format") != FORMAT:
        raise DataError.at(path, "labels", f"pseudo-labels of format {FORMAT}", about.get("format"), remedy)
    file = PseudoFile(table.to_pandas(), about["images"], about["protocol"])
    _check(file, path)
    return file


def _check(file: PseudoFile, path: Path) -> None:
    """Refuse rows that would train on something else than they say."""
    table, remedy = file.table, "write the file again"

    def fail(field: str, expected: str, got: object) -> DataError:
        return DataError.at(path, field, expected, got, remedy)

    if set(table.columns) != set(COLUMNS):
        raise fail("columns", ", ".join(COLUMNS), ", ".join(table.columns))
    if table.empty:
        raise fail("rows", "at least one set of two images", "none")
    numbers = table[["x", "y", "weight"]].to_numpy()
    if not np.isfinite(numbers).all() or (table["weight"] < 0).any():
        raise fail("x, y, weight", "finite numbers, weights of 0 or more", "others")
    if unknown := sorted(set(table["image"]) - set(file.images)):
        raise fail("image", "images that the file knows", unknown[0])
    if table.duplicated(["set", "image", "point"]).any():
        raise fail("point", "each point once per image and set", "one twice")
    if table.groupby("set")["image"].nunique().min() < 2:
        raise fail("set", "sets of two images or more", "one of one image")
    if table.groupby(["set", "image"])["mirrored"].nunique().max() > 1:
        raise fail("mirrored", "one pose per image and set", "both")
