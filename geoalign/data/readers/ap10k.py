"""AP-10K as a source of pairs: 54 species, 17 keypoints, within a species, a family, or across families."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from geoalign.data.readers.ap10k_animals import SLOTS, SPLITS, Animal, annotation_file, read_annotations, read_coco
from geoalign.data.readers.ap10k_lists import list_path, read_table
from geoalign.data.readers.ap10k_pairs import (
    CROWD_SHA256,
    SEED,
    PairTable,
    pair_table,
    partition,
    read_crowd,
)
from geoalign.data.readers.ap10k_release import image_path, read_released
from geoalign.data.readers.listed import ListedPairs
from geoalign.data.records import Threshold


class AP10K(ListedPairs):
    """Pairs of AP-10K images below ``root`` (``annotations/``, ``data/``, ``is_crowd.txt``).

    ``setting`` is one of the benchmark's three (its parquet list where one was written, else built here, which gives
    the same pairs) or ``all_pairs`` (both directions of all pairs of the official split's one file; no crowd list).
    A pair's category is its species (``all_pairs``: the source's), its family (``cross_species``) or ``all``
    (``cross_family``). ``crowd_sha256=None`` accepts a crowd list of one's own.

    Args:
        root: holds annotations/ap10k-{train,val,test}-split1.json, data/*.jpg, is_crowd.txt
        split: train (intra_species only) | val | test
        setting: intra_species | cross_species | cross_family | all_pairs
        pairs: built: from the official files | released: a generated PairAnnotation folder
        crowd: the benchmark's list of crowd images, below root; its SHA-256 is checked
        seed: of the draws above a cap
        threshold: box: PCK relative to max(height, width) of the target's box | image: of the target image
        symmetry: mirror table of the 17 keypoints; a yaml file, or null for none
        categories: species (intra) or families (cross-species) to keep; null: all
        max_pairs: keep so many pairs, evenly spaced; null: all
        require_images: stop at once where an image is missing
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        setting: str = "intra_species",
        pairs: Literal["built", "released"] = "built",
        crowd: str = "is_crowd.txt",
        crowd_sha256: str | None = CROWD_SHA256,
        seed: int = SEED,
        threshold: Threshold = "box",
        symmetry: str | Path | None = "ap10k",
        name: str | None = None,
        categories: Sequence[str] | None = None,
        max_pairs: int | None = None,
        require_images: bool = True,
    ) -> None:
        root, split = Path(root), {"trn": "train"}.get(split, split)
        if split not in SPLITS:
            raise ValueError(f"split is train (trn), val or test, got {split!r}")
        if pairs == "released":
            animals, table = read_released(root, split, setting)
            records = [a.record(image_path(root, a)) for a in animals]
        elif pairs == "built":
            animals, table = _built(root, split, setting, root / crowd, crowd_sha256, seed)
            records = [a.record(root / "data" / a.file_name) for a in animals]
        else:
            raise ValueError(f"pairs is built or released, got {pairs!r}")
        numbers = np.array([a.image for a in animals], np.int64)  # ascending, so ids are looked up by bisection
        src, trg = (np.searchsorted(numbers, ids) for ids in (table.src, table.trg))
        super().__init__(
            root, name or f"ap10k_{setting}", split, threshold, SLOTS, records, src, trg, table.category,
            symmetry, categories, max_pairs, require_images,
        )  # fmt: skip


def _built(
    root: Path, split: str, setting: str, crowd: Path, crowd_sha256: str | None, seed: int
) -> tuple[list[Animal], PairTable]:
    if setting == "all_pairs":
        animals = read_coco(annotation_file(root, split))
        return animals, pair_table(animals, split, setting, seed)
    dropped = read_crowd(crowd, crowd_sha256)
    animals = sorted(partition(read_annotations(root), dropped)[split], key=lambda a: a.image)
    written = list_path(root, split, setting)
    if written.is_file():
        return animals, read_table(written, animals, split, setting, seed)
    return animals, pair_table(animals, split, setting, seed)
