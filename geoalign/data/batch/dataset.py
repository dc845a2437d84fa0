"""Pairs as a torch dataset: light records; pixels and maps are loaded per batch by :class:`Collate`."""

from __future__ import annotations

import numpy as np
from torch.utils.data import Dataset

from geoalign.data.batch.collate import Sample
from geoalign.data.batch.samplers import Draw
from geoalign.data.records import PairRecord, PairSource


class PairDataset(Dataset[Sample]):
    """The source's pairs by index, or any two of its images by a pair of indices.

    ``max_pairs`` draws that many, seeded: without replacement, or with it as the release does.
    """

    def __init__(
        self, source: PairSource, max_pairs: int | None = None, replacement: bool = False, seed: int = 42
    ) -> None:
        self.source = source
        self.indices = _subset(len(source), max_pairs, replacement, seed)
        self.times = np.arange(len(self.indices)) - np.searchsorted(self.indices, self.indices)  # both sorted

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, draw: int | Draw) -> Sample:
        pair, epoch, place = draw if isinstance(draw, Draw) else (draw, 0, 0)
        if isinstance(pair, tuple):
            src, trg = (self.source.images[i] for i in pair)
            return Sample(PairRecord(f"{src.image_id}>{trg.image_id}", src, trg, src.category), epoch, place)
        record = self.source[int(self.indices[pair])]
        again = int(self.times[pair])  # drawn with replacement, a pair may come back: each counts, under its own id
        return Sample(record._replace(pair_id=f"{record.pair_id}#{again}") if again else record, epoch, place)

    def grouped(self) -> list[int]:
        """Indices ordered so that pairs of one category and source stand together and share views."""

        def place(i: int) -> tuple[str, str, int]:
            pair = self.source[int(self.indices[i])]
            return pair.category, pair.src.image_id, i

        return sorted(range(len(self)), key=place)


def _subset(total: int, wanted: int | None, replacement: bool, seed: int) -> np.ndarray:
    if wanted is None or (wanted >= total and not replacement):
        return np.arange(total)
    if wanted < 1:
        raise ValueError(f"max_pairs is at least 1, got {wanted}")
    chosen = np.random.default_rng(seed).choice(total, wanted, replace=replacement)
    return np.sort(chosen)
