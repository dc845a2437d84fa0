"""AP-10K as a source of pairs: 54 species, 17 keypoints, within a species, a family, or across families."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from geoalign.data.ap10k_build import CROWD_SHA256, SEED, PairTable, pair_table, partition, read_annotations, read_crowd
from geoalign.data.ap10k_coco import SLOTS, Animal, content_hash, read_coco
from geoalign.data.records import DataError, ImageRecord, PairRecord, PairSource
from geoalign.data.symmetry import Symmetry

NAMES = (
    *("left_eye", "right_eye", "nose", "neck", "root_of_tail"),
    *("left_shoulder", "left_elbow", "left_front_paw", "right_shoulder", "right_elbow", "right_front_paw"),
    *("left_hip", "left_knee", "left_back_paw", "right_hip", "right_knee", "right_back_paw"),
)
SYMMETRY = Symmetry(
    NAMES,
    ((0, 1), (5, 8), (6, 9), (12, 15), (7, 10), (13, 16), (11, 14)),
    ((5, 8), (6, 9, 12, 15), (7, 10, 13, 16), (11, 14)),
    tuple(1 if name.startswith("left") else 2 if name.startswith("right") else 0 for name in NAMES),
)


class AP10K(PairSource):
    """Pairs of AP-10K images below ``root`` (``annotations/``, ``data/``, ``is_crowd.txt``).

    ``setting`` is ``intra_species``, ``cross_species``, ``cross_family`` (the benchmark, built in memory)
    or ``all_pairs`` (both directions of all pairs of the official split's one file; no crowd list needed).
    A pair's category is its species (``all_pairs``: the source's), its family (``cross_species``) or
    ``all`` (``cross_family``).
    """

    name = "ap10k"
    threshold = "box"
    slots = SLOTS

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        setting: str = "intra_species",
        crowd: str = "is_crowd.txt",
        crowd_sha256: str | None = CROWD_SHA256,
        seed: int = SEED,
        check_files: bool = True,
    ) -> None:
        self.root, self.setting = Path(root), setting
        self.split = {"trn": "train"}.get(split, split)
        if self.split not in ("train", "val", "test"):
            raise ValueError(f"split is train (trn), val or test, got {split!r}")
        animals = self._animals(crowd, crowd_sha256)
        self._table: PairTable = pair_table(animals, self.split, setting, seed)
        used = set(self._table.src.tolist()) | set(self._table.trg.tolist())
        self._animals_used = [a for a in animals if a.image in used]
        self._records = {a.image: a.record(self.root / "data" / a.file_name) for a in self._animals_used}
        self.categories: tuple[str, ...] = tuple(sorted(set(self._table.category.tolist())))
        self.symmetries: Mapping[str, Symmetry] = dict.fromkeys(self.categories, SYMMETRY)
        if check_files:
            self._check_files()

    def _animals(self, crowd: str, crowd_sha256: str | None) -> list[Animal]:
        if self.setting == "all_pairs":
            return read_coco(self.root / "annotations" / f"ap10k-{self.split}-split1.json")
        crowd_ids = read_crowd(self.root / crowd, crowd_sha256)
        return partition(read_annotations(self.root), crowd_ids)[self.split]

    def _check_files(self) -> None:
        missing = [r.path for r in self._records.values() if not r.path.is_file()]
        if missing:
            got = f"nothing ({len(missing)} of {len(self._records)} images are missing)"
            raise DataError.at(missing[0], "image", "a file", got, "unpack AP-10K's data folder there")

    def __len__(self) -> int:
        return len(self._table.src)

    def __getitem__(self, index: Any) -> Any:
        src, trg = (self._records[int(ids[index])] for ids in (self._table.src, self._table.trg))
        category = str(self._table.category[index])
        return PairRecord(f"{src.image_id}-{trg.image_id}:{category}", src, trg, category)

    @property
    def images(self) -> Sequence[ImageRecord]:
        return list(self._records.values())

    @cached_property
    def _hash(self) -> str:
        parts = (self.name, self.split, self.setting, self._table.content_hash(), content_hash(self._animals_used))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def fingerprint(self) -> str:
        """Hash of the pairs and of the annotations they use."""
        return self._hash
