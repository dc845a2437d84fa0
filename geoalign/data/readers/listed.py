"""A source of pairs held as records and index columns: what every reader is built on."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import SupportsIndex, get_args, overload

import numpy as np
from jaxtyping import Int, Shaped

from geoalign.data.records import DataError, ImageRecord, PairRecord, PairSource, Threshold
from geoalign.data.symmetry_table import read_symmetries
from geoalign.symmetry import Symmetry

log = logging.getLogger(__name__)

Ends = Int[np.ndarray, "m"]
"""Of each pair, the index of one of its images."""


class ListedPairs(PairSource):
    """Pairs ``(src, trg)`` as indices into ``records``, each reported under its ``category``.

    ``keep`` names the categories to keep (None: all), ``max_pairs`` keeps that many pairs, evenly spaced;
    ``symmetry`` is a built-in table's name, a yaml file, or None for no mirror table. Pictures must be there unless
    ``require_images`` is false. Repairs are logged and kept in ``notes``.

    Raises:
        DataError: a missing picture, an unknown category, a wrong mirror table, or no pair that is left.
        ValueError: a wrong ``threshold`` or ``max_pairs``.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        split: str,
        threshold: Threshold,
        slots: int,
        records: Sequence[ImageRecord],
        src: Ends,
        trg: Ends,
        category: Shaped[np.ndarray, "m"],
        symmetry: str | Path | None = None,
        keep: Sequence[str] | None = None,
        max_pairs: int | None = None,
        require_images: bool = True,
        notes: Iterable[str] = (),
    ) -> None:
        if threshold not in get_args(Threshold):
            raise ValueError(f"threshold is {' or '.join(get_args(Threshold))}, got {threshold!r}")
        self.root, self.name, self.split, self.threshold, self.slots = root, name, split, threshold, slots
        self.notes = tuple(notes)
        for note in self.notes:
            log.warning("%s", note)
        rows = self._rows_of(records, category, keep)
        self.categories: tuple[str, ...] = tuple(np.unique(category[rows]).tolist())
        self._rows = rows if max_pairs is None else _evenly_spaced(rows, max_pairs)
        used, ends = np.unique(np.concatenate([src[self._rows], trg[self._rows]]).astype(int), return_inverse=True)
        self._src, self._trg = ends[: len(self._rows)], ends[len(self._rows) :]
        self._category = category[self._rows].astype(np.str_)
        self._records = [records[i] for i in used]
        species = {*self.categories, *(record.category for record in self._records)}  # pairs may go by their family
        self.symmetries: Mapping[str, Symmetry] = read_symmetries(symmetry, slots, species) if symmetry else {}
        if require_images:
            self._require_images()

    @property
    def images(self) -> Sequence[ImageRecord]:
        """Every image of the pairs once."""
        return self._records

    def __len__(self) -> int:
        return len(self._src)

    @overload
    def __getitem__(self, index: int) -> PairRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[PairRecord]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> PairRecord | Sequence[PairRecord]:
        """The pair at ``index``; slices give lists."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        src, trg = (self._records[ends[index]] for ends in (self._src, self._trg))
        return PairRecord(self._pair_id(index, src, trg), src, trg, str(self._category[index]))

    def fingerprint(self) -> str:
        """SHA-256 of the pairs, points, sizes and boxes; the same wherever the data lie."""
        digest = hashlib.sha256(repr((self.name, self.split, self.threshold, self.slots)).encode())
        digest.update(self._src.astype("<i8").tobytes() + self._trg.astype("<i8").tobytes())
        digest.update("\n".join(self._category.tolist()).encode())
        for record in self._records:
            digest.update(repr((record.image_id, record.size, record.box_px, record.category)).encode())
            digest.update(record.xy_px.astype("<f4").tobytes() + record.visible.tobytes())
        return digest.hexdigest()

    def _pair_id(self, at: SupportsIndex, src: ImageRecord, trg: ImageRecord) -> str:
        return f"{src.image_id}-{trg.image_id}:{self._category[at]}"

    @property
    def _remedy(self) -> str:
        return f"unpack the images of {self.name} below {self.root}"

    def _rows_of(self, records: Sequence[ImageRecord], category: np.ndarray, keep: Sequence[str] | None) -> np.ndarray:
        pictures = Counter(record.category for record in records)
        there = {*category.tolist(), *pictures}
        if keep is not None and (not keep or not there.issuperset(keep)):
            got = f"{', '.join(sorted(set(keep) - there)) or 'an empty list'}; there are {', '.join(sorted(there))}"
            raise DataError.at(self.root, "categories", "categories of the dataset", got, "correct the setting")
        rows = np.flatnonzero(np.isin(category, list(there if keep is None else keep)))
        if not len(rows):
            counts = ", ".join(f"{pictures[name]} of {name}" for name in sorted(pictures if keep is None else keep))
            expected = "at least one pair: two pictures that go together, with enough keypoints in common"
            remedy = "add pictures or keypoints, or choose another split"
            raise DataError.at(self.root, f"split {self.split}", expected, counts or "no picture", remedy)
        return rows

    def _require_images(self) -> None:
        missing = [record.path for record in self._records if not record.path.is_file()]
        if missing:
            got = f"nothing ({len(missing)} of {len(self._records)} images are missing)"
            raise DataError.at(missing[0], "image", "a file", got, self._remedy)


def _evenly_spaced(rows: np.ndarray, most: int) -> np.ndarray:
    if most < 1:
        raise ValueError(f"max_pairs is a number of pairs or null, got {most}")
    return rows if most >= len(rows) else rows[np.arange(most) * len(rows) // most]


def columns(
    records: Mapping[str, ImageRecord], pairs: Mapping[tuple[str, str], str]
) -> tuple[list[ImageRecord], Ends, Ends, Shaped[np.ndarray, "m"]]:
    """What :class:`ListedPairs` takes, from records by image id and the category of each pair of ids."""
    place = {image_id: i for i, image_id in enumerate(records)}
    ends = np.array([[place[image_id] for image_id in pair] for pair in pairs], np.int64).reshape(-1, 2)
    return list(records.values()), ends[:, 0], ends[:, 1], np.array(list(pairs.values()), np.str_)
