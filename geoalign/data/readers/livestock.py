"""Real photographs of horses, sheep and cattle, and subsets of them: a source left out, two species, a few pictures."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from geoalign.data.readers.listed import ListedPairs
from geoalign.data.readers.spair import SPair71k
from geoalign.data.records import DataError, ImageRecord

FEWEST_SHARED = 3
"""Points that a drawn pair shares, as the listed ones do."""


class Livestock(SPair71k):
    """One split as listed or, with any of the last five options, pairs drawn anew among the pictures that are left.

    Then there are at most as many pairs from a species as the list has, each sharing three points or more.

    Args:
        root: as data.prepare makes it: SPair-71k's layout, and in unseen/ the same
        split: trn | val | test | unseen: cattle of another farm, and sheep of AP-10K
        without: leave out the pictures of this source: horse, sheep, cattleA or cattleB; null: none
        only: keep the pictures of this source alone; null: all
        species: within: pairs of one species | across: of two, which share the keypoint slots
        few: so many pictures of each species, drawn; null: all
        draw: seed of the pictures and pairs drawn
        max_pairs: keep so many pairs, evenly spaced; null: all

    Raises:
        DataError: as SPair71k, an unknown source, or a species with fewer pictures than ``few`` or than two.
        ValueError: a number or a name that is not listed.
    """

    prepare = "livestock"

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        without: str | None = None,
        only: str | None = None,
        species: Literal["within", "across"] = "within",
        few: int | None = None,
        draw: int = 0,
        name: str = "livestock",
        max_pairs: int | None = None,
        **settings: Any,
    ) -> None:
        if few is not None and few < 2:
            raise ValueError(f"few is a number of pictures from 2, or null, got {few}")
        if species not in ("within", "across"):
            raise ValueError(f"species is within or across, got {species!r}; categories=[horse] keeps one species")
        folder, part = (Path(root) / "unseen", "test") if split == "unseen" else (Path(root), split)
        drawn = without is not None or only is not None or few is not None or species == "across"
        super().__init__(folder, part, name=name, max_pairs=None if drawn else max_pairs, **settings)
        if drawn:
            pictures = self._pictures(without, only, few, draw)
            self._draw_pairs(pictures, species == "across", draw, max_pairs)

    def _pictures(self, without: str | None, only: str | None, few: int | None, draw: int) -> list[ImageRecord]:
        there = sorted({source_of(record) for record in self.images})
        for key, source in {"without": without, "only": only}.items():
            if source is not None and source not in there:
                raise DataError.at(self.root, key, f"one of {', '.join(there)}", source, "correct the setting")
        left = [r for r in self.images if source_of(r) != without and only in (None, source_of(r))]
        chosen: list[ImageRecord] = []
        for species in sorted({record.category for record in left}):
            own = [record for record in left if record.category == species]
            if len(own) < (few or 2):
                expected = f"at least {few or 2} pictures of {species}"
                raise DataError.at(
                    self.root, f"split {self.split}", expected, len(own), "choose fewer, or more sources"
                )
            chosen += random.Random(f"{draw}/{species}").sample(own, few) if few else own
        return chosen

    def _draw_pairs(self, records: Sequence[ImageRecord], across: bool, draw: int, max_pairs: int | None) -> None:
        most = Counter(pair.category for pair in self)
        visible = np.array([record.visible for record in records], int)
        kind = np.array([record.category for record in records])
        able = ((kind[:, None] == kind[None]) != across) & (visible @ visible.T >= FEWEST_SHARED)
        np.fill_diagonal(able, False)
        src, trg = np.nonzero(able)
        rng = random.Random(f"{draw}/pairs")
        rows: list[int] = []
        for species in sorted(most):
            own = np.flatnonzero(kind[src] == species).tolist()
            rows += rng.sample(own, min(len(own), most[species]))
        src, trg = src[rows], trg[rows]
        symmetries = self.symmetries
        ListedPairs.__init__(
            self, self.root, self.name, self.split, self.threshold, self.slots, records, src, trg, kind[src],
            max_pairs=max_pairs, require_images=False, notes=self.notes,
        )  # fmt: skip
        self.symmetries = symmetries
        names = [record.path.stem for record in records]
        self._names = [
            f"{at + 1:06d}-{names[a]}-{names[b]}:{kind[a]}" for at, (a, b) in enumerate(zip(src, trg, strict=True))
        ]


def source_of(record: ImageRecord) -> str:
    """The farm and species that a picture is of: what its file name begins with."""
    return record.path.stem.partition("_")[0]
