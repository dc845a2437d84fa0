"""SPair-71k, SPair-U and datasets in their layout: image annotations, pair lists, boxes for PCK."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np

from geoalign.data.readers.listed import ListedPairs
from geoalign.data.readers.spair_annotations import check_pair, read_image, read_list
from geoalign.data.records import DataError, ImageRecord
from geoalign.data.validation import read_object


class SPair71k(ListedPairs):
    """The pairs of one split, in the order of ``Layout/<layout>/<split>.txt``.

    Points, boxes and azimuths come from ``ImageAnnotation``; boxes stay 1-based inclusive as annotated. Repairs
    made while reading are logged and kept in ``notes``. ``require_images=False`` serves uses that never open one.

    Args:
        root: holds JPEGImages/, ImageAnnotation/, Layout/, PairAnnotation/, Segmentation/
        split: trn | val | test
        layout: large | small: the folder of pair lists
        categories: categories to keep; null: all
        symmetry: mirror table: a built-in name, a yaml, none; null: the root's symmetry.yaml, else spair71k
        max_pairs: keep so many pairs, evenly spaced; null: all
        slots: keypoints an image may have
        images_root: where JPEGImages/ and Segmentation/ lie; null: root
        require_images: stop at once where an image is missing
    """

    prepare = "spair71k"
    annotation_folders: tuple[str, ...] = ("ImageAnnotation",)
    pair_lists: tuple[str, ...] = ("Layout/{layout}/{split}.txt",)

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        layout: str = "large",
        categories: Sequence[str] | None = None,
        symmetry: str | Path | None = None,
        name: str = "spair71k",
        max_pairs: int | None = None,
        slots: int = 30,
        images_root: str | Path | None = None,
        require_images: bool = True,
    ) -> None:
        self.root = root = Path(root)
        annotations = self._present(self.annotation_folders)
        pair_list = self._present([name.format(layout=layout, split=split) for name in self.pair_lists])
        if not annotations.is_dir():
            raise DataError.at(annotations, "folder", "a folder per category", "a file", self._remedy)
        pairs = read_list(pair_list, annotations)
        self._names = [pair.name for pair in pairs]
        ends = [((pair.category, pair.src), (pair.category, pair.trg)) for pair in pairs]
        place = {key: at for at, key in enumerate(sorted({key for pair in ends for key in pair}))}
        notes: list[str] = []
        if repeats := len(ends) - len(set(ends)):
            notes.append(f"{pair_list}: {repeats} pairs are listed again under another number; each entry counts")
        pictures = root if images_root is None else Path(images_root)
        records = [read_image(annotations / c / f"{stem}.json", slots, pictures, notes) for c, stem in place]
        src, trg = (np.array([place[pair[side]] for pair in ends], np.int64) for side in (0, 1))
        if symmetry is None:
            symmetry = own if (own := root / "symmetry.yaml").exists() else "spair71k"
        super().__init__(
            root, name, split, "box", slots, records, src, trg, np.array([pair.category for pair in pairs]),
            None if symmetry == "none" else symmetry, categories, max_pairs, require_images, notes,
        )  # fmt: skip

    def fingerprint(self) -> str:
        """SHA-256 of the pairs, points, sizes, boxes and azimuths; the same wherever the data lie."""
        digest = hashlib.sha256(repr((self.threshold, self.slots, self.categories)).encode())
        digest.update("\n".join(pair.pair_id for pair in self).encode())
        for record in self.images:
            facts = (record.image_id, record.size, record.box_px, record.azimuth, record.category)
            digest.update(repr(facts).encode() + record.xy_px.tobytes() + record.visible.tobytes())
        return digest.hexdigest()

    def check_pair_file(self, index: int) -> list[str]:
        """Where the pair's own json disagrees with the image annotations; empty when it agrees."""
        pair = self[index]
        path = self.root / "PairAnnotation" / self.split / f"{pair.pair_id}.json"
        return [f"{path}: {problem}" for problem in check_pair(read_object(path), pair)]

    @property
    def _remedy(self) -> str:
        return f"run: geoalign prepare dataset={self.prepare}"

    def _pair_id(self, at: SupportsIndex, src: ImageRecord, trg: ImageRecord) -> str:
        return self._names[self._rows[at]]

    def _present(self, choices: Sequence[str]) -> Path:
        """The first of ``choices`` below the root that is there."""
        if not self.root.is_dir():
            raise DataError.at(self.root, "root", "the dataset's folder", "no such folder", self._remedy)
        for path in (self.root / choice for choice in choices):
            if path.exists():
                return path
        raise DataError.at(self.root, choices[0], "to be in the dataset's folder", "nothing", self._remedy)


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
    annotation_folders = ("ImageAnnotation", "ExtraImageAnnotation")
    pair_lists = (*SPair71k.pair_lists, "PairAnnotation/{split}", "ExtraPairAnnotation/{split}")

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
