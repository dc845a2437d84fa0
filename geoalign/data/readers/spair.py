"""SPair-71k, SPair-U and datasets in their layout: image annotations, pair lists, boxes for PCK."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, SupportsIndex

from geoalign.data.readers.index_cache import cached, signature
from geoalign.data.readers.listed import ListedPairs
from geoalign.data.readers.spair_index import SPairIndex, build_index, check_pair
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
        index_cache: keep the parsed annotations below root
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
        index_cache: bool = True,
        max_pairs: int | None = None,
        slots: int = 30,
        images_root: str | Path | None = None,
        require_images: bool = True,
    ) -> None:
        self.root = root = Path(root)
        index = self._read_index(layout, split, slots, index_cache)
        self._numbers = index.number
        if symmetry is None:
            symmetry = own if (own := root / "symmetry.yaml").exists() else "spair71k"
        super().__init__(
            root, name, split, "box", slots,
            _records(index, root if images_root is None else Path(images_root)),
            index.src, index.trg, index.category[index.src],
            None if symmetry == "none" else symmetry, categories, max_pairs, require_images, index.notes.tolist(),
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
        return f"run: python -m geoalign.data.prepare dataset={self.prepare}"

    def _pair_id(self, at: SupportsIndex, src: ImageRecord, trg: ImageRecord) -> str:
        number = self._numbers[self._rows[at]]
        names = (record.image_id.removeprefix(f"{record.category}/") for record in (src, trg))
        return f"{number}-{'-'.join(names)}:{src.category}"

    def _read_index(self, layout: str, split: str, slots: int, use_cache: bool) -> SPairIndex:
        annotations = self._present(self.annotation_folders)
        pair_list = self._present([name.format(layout=layout, split=split) for name in self.pair_lists])
        if not annotations.is_dir():
            raise DataError.at(annotations, "folder", "a folder per category", "a file", self._remedy)
        if not use_cache:
            return build_index(annotations, pair_list, slots)
        folders = sorted(p for p in annotations.iterdir() if p.is_dir())
        key = signature([pair_list, *folders], type(self).__name__, slots)
        name = f"{self.prepare}-{layout}-{split}-{slots}"
        return SPairIndex(**cached(self.root, name, key, lambda: build_index(annotations, pair_list, slots)._asdict()))

    def _present(self, choices: Sequence[str]) -> Path:
        """The first of ``choices`` below the root that is there."""
        if not self.root.is_dir():
            raise DataError.at(self.root, "root", "the dataset's folder", "no such folder", self._remedy)
        there = [self.root / choice for choice in choices if (self.root / choice).exists()]
        if not there:
            raise DataError.at(self.root, choices[0], "to be in the dataset's folder", "nothing", self._remedy)
        return there[0]


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


def _records(index: SPairIndex, root: Path) -> list[ImageRecord]:
    records = []
    facts = (index.names, index.files, index.category, index.size, index.box_px, index.azimuth)
    for i, (name, file, category, (h, w), (x1, y1, x2, y2), azimuth) in enumerate(
        zip(*(column.tolist() for column in facts), strict=True)
    ):
        mask = root / "Segmentation" / category / f"{name}.png"
        records.append(
            ImageRecord(
                f"{category}/{name}", root / "JPEGImages" / category / file, (h, w), category,
                index.xy_px[i], index.visible[i], (x1, y1, x2, y2), azimuth, mask if mask.exists() else None,
            )
        )  # fmt: skip
    return records
