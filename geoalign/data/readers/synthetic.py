"""The synthetic benchmark as a dataset: written to the cache when first asked for, then read as SPair-71k is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geoalign.data.readers.spair import SPair71k
from geoalign.synthetic.once import default_root
from geoalign.synthetic.species import CATEGORIES
from geoalign.synthetic.write import IMAGES, PAIRS, parameters, write_synthetic


class Synthetic(SPair71k):
    """One split of the data set that ``seed`` and the counts per category stand for.

    It lies in ``cache`` under a name that holds a hash of these settings. ``settings`` go to :class:`SPair71k`.

    Args:
        cache: where it is written
        split: whose pictures: trn | val | test
        seed: of what is rendered; other seeds, other images
        images: per category and split
        pairs: per category and split, at most
        categories: any of cat, horse, cow, car
    """

    prepare = "synthetic"

    def __init__(
        self,
        cache: str | Path,
        split: str = "test",
        seed: int = 0,
        images: Mapping[str, int] = IMAGES,
        pairs: Mapping[str, int] = PAIRS,
        categories: Sequence[str] = CATEGORIES,
        name: str = "synthetic",
        workers: int = 2,
        progress: bool = True,
        **settings: Any,
    ) -> None:
        root = default_root(cache, **parameters(seed, images, pairs, categories))
        write_synthetic(root, seed, images, pairs, categories, workers, progress)
        super().__init__(root, split, name=name, **settings)

    @property
    def _remedy(self) -> str:
        return f"delete {self.root}; it is written anew when next asked for"
