"""A source of pairs held as records and index columns: what the readers of smaller layouts share."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import SupportsIndex, get_args, overload

import numpy as np

from geoalign.data.records import DataError, ImageRecord, PairRecord, PairSource, Threshold
from geoalign.data.symmetry_table import read_symmetries
from geoalign.symmetry import Symmetry

log = logging.getLogger(__name__)


class ListedPairs(PairSource):
    """Pairs ``(src, trg)`` as indices into ``records``, each reported under its ``category``.

    ``keep`` names the categories to keep (None: all), ``max_pairs`` keeps that many pairs, evenly spaced;
    ``symmetry`` is a built-in table's name, a yaml file, or None for no mirror table. Images must be there unless
    ``require_images`` is false. Repairs are logged and kept in ``notes``.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        split: str,
        threshold: Threshold,
        slots: int,
        records: Sequence[ImageRecord],
        src: np.ndarray,
        trg: np.ndarray,
        category: np.ndarray,
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
        rows = _rows(root, category, keep, max_pairs)
        used, ends = np.unique(np.concatenate([src[rows], trg[rows]]).astype(np.int64), return_inverse=True)
        self._src, self._trg = ends[: len(rows)], ends[len(rows) :]
        self._category = category[rows].astype(np.str_)
        self._records = [records[i] for i in used]
        self.categories: tuple[str, ...] = tuple(sorted(set(self._category.tolist())))
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
        category = str(self._category[index])
        return PairRecord(f"{src.image_id}-{trg.image_id}:{category}", src, trg, category)

    def fingerprint(self) -> str:
        """SHA-256 of the pairs, points, sizes and boxes; the same wherever the data lie."""
        digest = hashlib.sha256(repr((self.name, self.split, self.threshold, self.slots)).encode())
        digest.update(self._src.astype("<i8").tobytes() + self._trg.astype("<i8").tobytes())
        digest.update("\n".join(self._category.tolist()).encode())
        for record in self._records:
            digest.update(repr((record.image_id, record.size, record.box_px, record.category)).encode())
            digest.update(record.xy_px.astype("<f4").tobytes() + record.visible.tobytes())
        return digest.hexdigest()

    def _require_images(self) -> None:
        missing = [record.path for record in self._records if not record.path.is_file()]
        if missing:
            got = f"nothing ({len(missing)} of {len(self._records)} images are missing)"
            raise DataError.at(
                missing[0], "image", "a file", got, f"unpack the images of {self.name} below {self.root}"
            )


def _rows(root: Path, category: np.ndarray, keep: Sequence[str] | None, max_pairs: int | None) -> np.ndarray:
    rows = np.arange(len(category))
    if keep is not None:
        there = set(category.tolist())
        if not keep or not there.issuperset(keep):
            got = f"{sorted(set(keep) - there) or 'an empty list'}; there are {sorted(there)}"
            raise DataError.at(root, "categories", "categories of the dataset", got, "correct the setting")
        rows = np.flatnonzero(np.isin(category, list(keep)))
    if max_pairs is not None and max_pairs < 1:
        raise ValueError(f"max_pairs is a number of pairs or null, got {max_pairs}")
    if max_pairs is not None and len(rows) > max_pairs:
        rows = rows[np.linspace(0, len(rows) - 1, max_pairs).round().astype(int)]
    if not len(rows):
        raise DataError.at(root, "pairs", "at least one pair", "none", "check the dataset and the settings")
    return rows
