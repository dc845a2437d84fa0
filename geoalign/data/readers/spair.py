"""SPair-71k, SPair-U and datasets in their layout: image annotations, pair lists, boxes for PCK."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex, overload

import numpy as np

from geoalign.data.readers.index_cache import cached, signature
from geoalign.data.readers.spair_index import SPairIndex, build_index, check_pair
from geoalign.data.records import DataError, ImageRecord, PairRecord, PairSource
from geoalign.data.symmetry_table import read_symmetries
from geoalign.data.validation import read_object
from geoalign.symmetry import Symmetry

log = logging.getLogger(__name__)


class SPair71k(PairSource):
    """The pairs of one split, in the order of ``Layout/<layout>/<split>.txt``.

    Points, boxes and azimuths come from ``ImageAnnotation``; boxes stay 1-based inclusive as annotated. Repairs
    made while reading are logged and kept in ``notes``. ``require_images=False`` serves uses that never open one.

    Args:
        root: holds JPEGImages/, ImageAnnotation/, Layout/, PairAnnotation/, Segmentation/
        split: trn | val | test
        layout: large | small: the folder of pair lists
        categories: categories to keep; null: all
        symmetry: mirror table: a built-in name, a yaml, none; null: the root's symmetry.yaml, else spair71k
        index_cache: keep the parsed annotations below root
        max_pairs: keep so many pairs, evenly spaced; null: all
        slots: keypoints an image may have
        images_root: where JPEGImages/ and Segmentation/ lie; null: root
        require_images: stop at once where an image is missing
    """

    prepare = "spair71k"

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        layout: str = "large",
        categories: Sequence[str] | None = None,
        symmetry: str | Path | None = None,
        name: str = "spair71k",
        index_cache: bool = True,
        max_pairs: int | None = None,
        slots: int = 30,
        images_root: str | Path | None = None,
        require_images: bool = True,
    ) -> None:
        self.root, self.layout = Path(root), layout
        self.images_root = Path(images_root) if images_root is not None else self.root
        self.name, self.split, self.slots, self.threshold = name, split, slots, "box"
        self.annotations = self._read_index(*self._locate(), index_cache)
        self.notes: tuple[str, ...] = tuple(self.annotations.notes.tolist())
        for note in self.notes:
            log.warning("%s", note)
        self.categories = self._choose_categories(categories)
        self._rows = _select(self.annotations, self.categories, max_pairs)
        used = np.unique(np.concatenate([self.annotations.src[self._rows], self.annotations.trg[self._rows]])).tolist()
        self._records = self._make_records(used, require_images)
        self._place = {i: at for at, i in enumerate(used)}
        self.symmetries = self._read_symmetries(symmetry)

    @property
    def images(self) -> Sequence[ImageRecord]:
        """Every image of the pairs once, sorted by category and name."""
        return self._records

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> PairRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[PairRecord]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> PairRecord | Sequence[PairRecord]:
        """The pair at ``index``; slices give lists."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = int(self._rows[index])
        src, trg = (self._records[self._place[int(ends[row])]] for ends in (self.annotations.src, self.annotations.trg))
        return PairRecord(self.annotations.pair_id(row), src, trg, src.category)

    def fingerprint(self) -> str:
        """SHA-256 of the pairs, points, sizes, boxes and azimuths; the same wherever the data lie."""
        digest = hashlib.sha256(repr((self.threshold, self.slots, self.categories)).encode())
        digest.update("\n".join(self.annotations.pair_id(int(row)) for row in self._rows).encode())
        for record in self._records:
            facts = (record.image_id, record.size, record.box_px, record.azimuth, record.category)
            digest.update(repr(facts).encode() + record.xy_px.tobytes() + record.visible.tobytes())
        return digest.hexdigest()

    def check_pair_file(self, index: int) -> list[str]:
        """Where the pair's own json disagrees with the image annotations; empty when it agrees."""
        row = int(self._rows[index])
        path = self.root / "PairAnnotation" / self.split / f"{self.annotations.pair_id(row)}.json"
        return [f"{path}: {problem}" for problem in check_pair(read_object(path), self.annotations, row)]

    @property
    def _remedy(self) -> str:
        return f"run: python -m geoalign.data.prepare dataset={self.prepare}"

    def _locate(self) -> tuple[Path, Path]:
        """The folder of image annotations and the list of pairs."""
        return self._present(["ImageAnnotation"]), self._present([f"Layout/{self.layout}/{self.split}.txt"])

    def _present(self, choices: Sequence[str]) -> Path:
        """The first of ``choices`` below the root that is there."""
        there = [self.root / choice for choice in choices if (self.root / choice).exists()]
        if not self.root.is_dir():
            raise DataError.at(self.root, "root", "the dataset's folder", "no such folder", self._remedy)
        if not there:
            raise DataError.at(self.root, choices[0], "to be in the dataset's folder", "nothing", self._remedy)
        return there[0]

    def _read_index(self, annotations: Path, pair_list: Path, use_cache: bool) -> SPairIndex:
        if not annotations.is_dir():
            raise DataError.at(annotations, "folder", "a folder per category", "a file", self._remedy)
        if not use_cache:
            return build_index(annotations, pair_list, self.slots)
        folders = sorted(p for p in annotations.iterdir() if p.is_dir())
        key = signature([pair_list, *folders], type(self).__name__, self.slots)
        name = f"{self.prepare}-{self.layout}-{self.split}-{self.slots}"
        return SPairIndex(**cached(self.root, name, key, lambda: _arrays(annotations, pair_list, self.slots)))

    def _choose_categories(self, wanted: Sequence[str] | None) -> tuple[str, ...]:
        there = sorted(set(self.annotations.category.tolist()))
        missing = sorted(set(wanted or ()) - set(there))
        if missing or wanted == []:
            got = f"{', '.join(missing) or 'an empty list'}; there are {', '.join(there)}"
            raise DataError.at(self.root, "categories", "categories of the list", got, "correct the setting")
        return tuple(there if wanted is None else sorted(set(wanted)))

    def _make_records(self, used: Sequence[int], require: bool) -> list[ImageRecord]:
        pictures, masks = ({c: self.images_root / kind / c for c in self.categories} for kind in FOLDERS)
        files, segmented = ({c: _names(folder) for c, folder in kind.items()} for kind in (pictures, masks))
        records = []
        for i in used:
            category, file, name = (
                str(array[i]) for array in (self.annotations.category, self.annotations.files, self.annotations.names)
            )
            if require and file not in files[category]:
                raise DataError.at(pictures[category] / file, "image", "the picture", "no such file", self._remedy)
            mask = masks[category] / f"{name}.png" if f"{name}.png" in segmented[category] else None
            records.append(_record(self.annotations, i, pictures[category] / file, mask))
        return records

    def _read_symmetries(self, source: str | Path | None) -> Mapping[str, Symmetry]:
        own = self.root / "symmetry.yaml"
        if source == "none":
            return {}
        chosen = source if source is not None else own if own.is_file() else "spair71k"
        return read_symmetries(chosen, self.slots, self.categories)


class SPairU(SPair71k):
    """SPair-U: other keypoints on SPair-71k's test images, whose pictures lie in ``images_root``.

    Pairs come from a Layout list or else from the pair files' names; folders may carry the prefix ``Extra``.
    No mirror table is published, so geometry-aware numbers need a ``symmetry`` of your own.

    Args:
        root: holds (Extra)ImageAnnotation/ and (Extra)PairAnnotation/ or Layout/
        images_root: SPair-71k, whose pictures it annotates
        split: test; there is no other
        symmetry: a mirror table (yaml) of your own, or none
    """

    prepare = "spair_u"

    def __init__(
        self,
        root: str | Path,
        images_root: str | Path,
        split: str = "test",
        symmetry: str | Path | None = "none",
        name: str = "spair_u",
        **settings: Any,
    ) -> None:
        super().__init__(root, split, images_root=images_root, symmetry=symmetry, name=name, **settings)

    def _locate(self) -> tuple[Path, Path]:
        lists = (f"Layout/{self.layout}/{self.split}.txt", f"PairAnnotation/{self.split}")
        return (
            self._present(["ImageAnnotation", "ExtraImageAnnotation"]),
            self._present([*lists, f"ExtraPairAnnotation/{self.split}"]),
        )


FOLDERS = ("JPEGImages", "Segmentation")


def _arrays(annotations: Path, pair_list: Path, slots: int) -> dict[str, np.ndarray]:
    return build_index(annotations, pair_list, slots)._asdict()


def _record(index: SPairIndex, i: int, path: Path, mask_path: Path | None) -> ImageRecord:
    category = str(index.category[i])
    h, w = index.size[i].tolist()
    x1, y1, x2, y2 = index.box_px[i].tolist()
    image_id, azimuth = f"{category}/{index.names[i]}", int(index.azimuth[i])
    return ImageRecord(
        image_id, path, (h, w), category, index.xy_px[i], index.visible[i], (x1, y1, x2, y2), azimuth, mask_path
    )


def _select(index: SPairIndex, categories: Iterable[str], max_pairs: int | None) -> np.ndarray:
    rows = np.flatnonzero(np.isin(index.category[index.src], list(categories)))
    if max_pairs is None or max_pairs >= len(rows):
        return rows
    if max_pairs < 1:
        raise ValueError(f"max_pairs is at least 1 or None, got {max_pairs}")
    return rows[np.arange(max_pairs) * len(rows) // max_pairs]


def _names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()} if folder.is_dir() else set()
