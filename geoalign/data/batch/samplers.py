"""What a batch is drawn from; every sampler is seeded, stateless within an epoch and aware of ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from geoalign.data.records import PairSource


class Draw(NamedTuple):
    """One pair to load: its index, or the indices of two images; the epoch it is drawn in, and its place there."""

    pair: int | tuple[int, int]
    epoch: int = 0
    place: int = 0
    """Of the pair or clique among the epoch's: the same whatever the ranks, batches and resumptions."""


class TrainSampler(Sampler[list[Draw]]):
    """Base of the batch samplers for training: batch ``i`` of rank ``r`` is part ``r`` of the i-th global batch.

    So ``world`` ranks together see exactly what one rank with ``world`` times the batch sees. Resuming skips
    ``start`` batches of the first epoch.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed, self.epoch, self.start = seed, 0, 0
        self.rank, self.world = 0, 1

    def set_epoch(self, epoch: int) -> None:
        """Every epoch has its own order; the training loader calls this before each."""
        self.epoch = epoch

    def shard(self, rank: int, world: int) -> None:
        """Say which rank this sampler draws for."""
        if not 0 <= rank < world:
            raise ValueError(f"rank lies in 0..{world - 1}, got {rank}")
        self.rank, self.world = rank, world

    def __iter__(self) -> Iterator[list[Draw]]:
        start, self.start = self.start, 0
        for number, batch in enumerate(self._batches(np.random.default_rng([self.seed, self.epoch]))):
            if number >= start:
                yield batch

    def __len__(self) -> int:
        raise NotImplementedError

    def example(self) -> list[Draw]:
        """A batch such as it draws, without moving on; empty where there is none."""
        return next(self._batches(np.random.default_rng(self.seed)), [])

    def _batches(self, rng: np.random.Generator) -> Iterator[list[Draw]]:
        raise NotImplementedError


class PairSampler(TrainSampler):
    """Each pair once per epoch in random order; the last incomplete global batch is dropped.

    Args:
        batch_size: pairs per batch and rank
        seed: of the order
    """

    def __init__(self, source: PairSource, batch_size: int, seed: int = 0) -> None:
        super().__init__(seed)
        self.pairs, self.batch_size = len(source), batch_size

    def __len__(self) -> int:
        return self.pairs // (self.batch_size * self.world)

    def _batches(self, rng: np.random.Generator) -> Iterator[list[Draw]]:
        order = rng.permutation(self.pairs)
        step = self.batch_size * self.world
        for at in range(0, len(self) * step, step):
            own = range(at + self.rank, at + step, self.world)
            yield [Draw(int(order[place]), self.epoch, place) for place in own]


class CliqueSampler(TrainSampler):
    """Sets of ``size`` images of one category with all their ordered pairs: size·(size−1) rows for size forwards.

    Categories are drawn in proportion to their pairs. Pseudo-labels say which images go together (``cliques``).

    Args:
        size: images of one category in a clique; all their ordered pairs are rows
        cliques: per batch and rank
        batches: per epoch; null: as many as draw the number of pairs once
        seed: of the draws
        across: share of cliques drawn from all categories together, from 0 to 1; only where they share their keypoints

    Raises:
        ValueError: a clique of one image, no category with two, or categories of different keypoints together.
    """

    def __init__(
        self,
        source: PairSource,
        size: int = 8,
        cliques: int = 1,
        batches: int | None = None,
        seed: int = 0,
        across: float = 0.0,
    ) -> None:
        super().__init__(seed)
        if size < 2 or cliques < 1:
            raise ValueError(f"a clique has at least 2 images and a batch at least 1 clique, got {size} and {cliques}")
        self.size, self.cliques, self.batches, self.pairs = size, cliques, batches, len(source)
        self.groups = [np.array(found) for found in source.cliques() if len(found) > 1]
        if not self.groups:
            raise ValueError("cliques need a category with two images; use the pair sampler")
        if not 0 <= across <= 1:
            raise ValueError(f"data.sampler.across is a share from 0 to 1, got {across}")
        if across and any(a != b for a, b in pairwise(source.symmetries.values())):
            raise ValueError(
                f"categories of {source.name} do not share their keypoints; set data.sampler.across=0, which draws "
                "cliques of one category"
            )
        self.across, self.every = across, np.arange(len(source.images))

    def __len__(self) -> int:
        if self.batches is not None:
            return self.batches
        return max(1, self.pairs // (self.size * (self.size - 1) * self.cliques * self.world))

    def _batches(self, rng: np.random.Generator) -> Iterator[list[Draw]]:
        share = np.array([len(g) * (len(g) - 1) for g in self.groups], dtype=float)
        together = self.cliques * self.world
        for number in range(len(self)):
            places = range(number * together, (number + 1) * together)
            drawn = [self._clique(rng, share / share.sum(), place) for place in places]
            yield [draw for clique in drawn[self.rank :: self.world] for draw in clique]

    def _clique(self, rng: np.random.Generator, share: np.ndarray, place: int) -> list[Draw]:
        # no draw where nothing is mixed: the cliques of a seed stay what they were
        mixed = self.across and rng.random() < self.across
        group = self.every if mixed else self.groups[rng.choice(len(self.groups), p=share)]
        images = rng.choice(group, min(self.size, len(group)), replace=False).tolist()
        return [Draw((a, b), self.epoch, place) for a in images for b in images if a != b]


class EvaluationSampler(Sampler[int]):
    """Every index once over all ranks, nothing padded (a padded sampler counts samples twice).

    Rank ``r`` gets the r-th contiguous part of ``order``, so that pairs that share views share batches.
    """

    def __init__(self, order: Sequence[int], rank: int = 0, world: int = 1) -> None:
        bounds = np.linspace(0, len(order), world + 1).round().astype(int)
        self.indices = list(order[bounds[rank] : bounds[rank + 1]])

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)
