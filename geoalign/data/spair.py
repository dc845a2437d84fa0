"""SPair-71k and datasets in its layout: image annotations, pair lists, boxes for PCK."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex, overload

import numpy as np

from geoalign.data.index_cache import cached, signature
from geoalign.data.records import DataError, ImageRecord, PairRecord, PairSource
from geoalign.data.spair_index import SPairIndex, build_index, check_pair
from geoalign.data.symmetry import Symmetry
from geoalign.data.symmetry_table import read_symmetries
from geoalign.data.validation import read_object

log = logging.getLogger(__name__)


class SPair71k(PairSource):
    """The pairs of one split, in the order of ``Layout/<layout>/<split>.txt``.

    Points, boxes and azimuths come from ``ImageAnnotation``; boxes stay 1-based inclusive as annotated. Repairs
    made while reading are listed in ``notes``. ``symmetry`` is a built-in table's name, a yaml file, ``"none"``, or
    None for ``symmetry.yaml`` in the root and else the built-in ``spair71k``. ``max_pairs`` keeps that many pairs,
    evenly spaced. ``require_images=False`` serves uses that never open a picture.
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
        self._list = self.root / "Layout" / layout / f"{split}.txt"
        self._check_folders()
        index = self._index(index_cache)
        self.notes: tuple[str, ...] = tuple(index.notes.tolist())
        for note in self.notes:
            log.warning("%s", note)
        self.categories = self._choose_categories(index, categories)
        self._rows = _select(index, self.categories, max_pairs)
        self._arrays = index
        self._records, self._place = self._make_records(index, require_images)
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
        src, trg = (self._records[self._place[int(ends[row])]] for ends in (self._arrays.src, self._arrays.trg))
        return PairRecord(self._pair_id(row), src, trg, src.category)

    def fingerprint(self) -> str:
        """SHA-256 of the pairs, points, sizes, boxes and azimuths; the same wherever the data lie."""
        digest = hashlib.sha256(repr((self.threshold, self.slots, self.categories)).encode())
        digest.update("\n".join(self._pair_id(int(row)) for row in self._rows).encode())
        for record in self._records:
            facts = (record.image_id, record.size, record.box_px, record.azimuth, record.category)
            digest.update(repr(facts).encode() + record.xy_px.tobytes() + record.visible.tobytes())
        return digest.hexdigest()

    def check_pair_file(self, index: int) -> list[str]:
        """Where the pair's own json disagrees with the image annotations; empty when it agrees."""
        row = int(self._rows[index])
        path = self.root / "PairAnnotation" / self.split / f"{self._pair_id(row)}.json"
        return [f"{path}: {problem}" for problem in check_pair(read_object(path), self._arrays, row)]

    def _pair_id(self, row: int) -> str:
        index = self._arrays
        src, trg = index.src[row], index.trg[row]
        return f"{index.number[row]}-{index.names[src]}-{index.names[trg]}:{index.category[src]}"

    def _check_folders(self) -> None:
        annotations = self.root / "ImageAnnotation"
        remedy = f"run: python -m geoalign.data.prepare dataset={self.prepare} root={self.root}"
        if not self.root.is_dir():
            raise DataError.at(self.root, "root", "the dataset's folder", "nothing there", remedy)
        for path in (self._list, annotations):
            if not path.exists():
                raise DataError.at(self.root, str(path.relative_to(self.root)), "to be there", "nothing", remedy)

    def _index(self, use_cache: bool) -> SPairIndex:
        annotations = self.root / "ImageAnnotation"
        if not use_cache:
            return build_index(annotations, self._list, self.slots)
        folders = sorted(p for p in annotations.iterdir() if p.is_dir())
        key = signature([self._list, *folders], type(self).__name__, self.slots)
        name = f"{self.prepare}-{self.layout}-{self.split}-{self.slots}"
        arrays = cached(self.root, name, key, lambda: build_index(annotations, self._list, self.slots)._asdict())
        return SPairIndex(**arrays)

    def _choose_categories(self, index: SPairIndex, wanted: Sequence[str] | None) -> tuple[str, ...]:
        there = sorted(set(index.category.tolist()))
        missing = sorted(set(wanted or ()) - set(there))
        if missing:
            got = f"{', '.join(missing)}; there are {', '.join(there)}"
            raise DataError.at(self._list, "categories", "categories of the list", got, "correct data.categories")
        return tuple(there if wanted is None else sorted(set(wanted)))

    def _make_records(self, index: SPairIndex, require: bool) -> tuple[list[ImageRecord], dict[int, int]]:
        used = np.unique(np.concatenate([index.src[self._rows], index.trg[self._rows]])).tolist()
        pictures = {c: _listing(self.images_root / "JPEGImages" / c) for c in self.categories}
        masks = {c: _listing(self.images_root / "Segmentation" / c) for c in self.categories}
        records = [self._record(index, i, pictures, masks, require) for i in used]
        return records, {i: at for at, i in enumerate(used)}

    def _record(
        self, index: SPairIndex, i: int, pictures: Mapping[str, set[str]], masks: Mapping[str, set[str]], require: bool
    ) -> ImageRecord:
        category, file, name = str(index.category[i]), str(index.files[i]), str(index.names[i])
        path = self.images_root / "JPEGImages" / category / file
        if require and file not in pictures[category]:
            remedy = f"run: python -m geoalign.data.prepare dataset={self.prepare} root={self.root}"
            raise DataError.at(path, "image", "the annotated image", "no such file", remedy)
        mask = self.images_root / "Segmentation" / category / f"{name}.png"
        h, w = index.size[i].tolist()
        x1, y1, x2, y2 = index.box_px[i].tolist()
        return ImageRecord(
            image_id=f"{category}/{name}",
            path=path,
            size=(h, w),
            category=category,
            xy_px=index.xy_px[i],
            visible=index.visible[i],
            box_px=(x1, y1, x2, y2),
            azimuth=int(index.azimuth[i]),
            mask_path=mask if mask.name in masks[category] else None,
        )

    def _read_symmetries(self, source: str | Path | None) -> Mapping[str, Symmetry]:
        own = self.root / "symmetry.yaml"
        if source == "none":
            return {}
        chosen = source if source is not None else own if own.is_file() else "spair71k"
        return read_symmetries(chosen, self.slots, self.categories)


def _select(index: SPairIndex, categories: Iterable[str], max_pairs: int | None) -> np.ndarray:
    rows = np.flatnonzero(np.isin(index.category[index.src], list(categories)))
    if max_pairs is None or max_pairs >= len(rows):
        return rows
    if max_pairs < 1:
        raise ValueError(f"max_pairs is at least 1 or None, got {max_pairs}")
    return rows[np.arange(max_pairs) * len(rows) // max_pairs]


def _listing(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()} if folder.is_dir() else set()


class SPairU(SPair71k):
    """SPair-U: other keypoints on SPair-71k's test images, whose pictures lie in ``images_root``.

    Mirror partners of its keypoints are not published, so there is no table unless ``symmetry`` names one.
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
