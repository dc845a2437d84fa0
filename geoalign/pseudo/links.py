"""One link: where the cells of one subject lie in another, and which of these matches every filter keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geoalign.matching.constellation import Constellations, shape
from geoalign.pseudo.subjects import Look, Subject


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two subjects that face one way: what filters look at. ``k`` cells of the source, ``m`` of the target."""

    names: tuple[str, str]
    subjects: tuple[Subject, Subject]
    mirrored: tuple[bool, bool]

    @property
    def src(self) -> Look:
        """The source as it stands here."""
        return self.subjects[0].look(self.mirrored[0])

    @property
    def trg(self) -> Look:
        """The target as it stands here."""
        return self.subjects[1].look(self.mirrored[1])

    @cached_property
    def similarity(self) -> Float[Tensor, "k m"]:
        """Cosines of all cells."""
        return self.src.descriptors @ self.trg.descriptors.T

    @cached_property
    def nearest(self) -> Int[Tensor, "k"]:
        """The target's cell most like each of the source."""
        return self.similarity.argmax(1)

    @cached_property
    def back_px(self) -> Float[Tensor, "k"]:
        """How far from its start each cell's way back ends."""
        back = self.similarity.argmax(0)[self.nearest]
        return (self.src.xy_px[back] - self.src.xy_px).norm(dim=1)

    @cached_property
    def residual(self) -> Float[Tensor, "k"]:
        """Distance of each match from a robust affine map of those that find back; shares of the target's extent."""
        sure = self.back_px <= 0.1 * self.src.extent_px
        sure = sure if int(sure.sum()) >= 5 else torch.ones_like(sure)
        found = self.trg.xy_px[self.nearest]
        row = torch.zeros(int(sure.sum()), dtype=torch.long)
        groups, extent = Constellations.of(row, row), torch.full((len(row),), self.trg.extent_px)
        fit = shape(groups, self.src.xy_px[sure], found[sure], extent)
        every = torch.full((len(sure),), torch.inf)
        every[sure] = fit.residual
        return every

    def elsewhere(self) -> Comparison:
        """The same pair with both mirrored: cells keep their order."""
        return dataclasses.replace(self, mirrored=(not self.mirrored[0], not self.mirrored[1]))


@runtime_checkable
class Filter(Protocol):
    """Says which matches of a comparison are to be kept."""

    def __call__(self, pair: Comparison) -> Bool[Tensor, "k"]:
        """Of the source's cells."""
        ...


@dataclass(frozen=True)
class WayBack:
    """The way back ends near its start (DIY-SC: within two cells of 14 px; 0: mutual nearest neighbours).

    Args:
        within_px: of the frame
    """

    within_px: float = 28.0

    def __call__(self, pair: Comparison) -> Bool[Tensor, "k"]:
        """Which matches are kept."""
        return pair.back_px <= self.within_px


@dataclass(frozen=True)
class Agreement:
    """The match lies where a robust affine map of the others takes it.

    Args:
        residual: at most, as a share of the target's extent
    """

    residual: float = 0.1

    def __call__(self, pair: Comparison) -> Bool[Tensor, "k"]:
        """Which matches are kept."""
        return pair.residual <= self.residual


@dataclass(frozen=True)
class BothFlips:
    """The match is found between the two mirror images, too.

    Args:
        within_px: of the frame
    """

    within_px: float = 28.0

    def __call__(self, pair: Comparison) -> Bool[Tensor, "k"]:
        """Which matches are kept."""
        other = pair.trg.xy_px[pair.elsewhere().nearest]
        return (other - pair.trg.xy_px[pair.nearest]).norm(dim=1) <= self.within_px


@dataclass(frozen=True)
class Ratio:
    """The best cell is better than any that is not beside it.

    Args:
        best: the second best's distance times this is at least the best's; 1: no filter
        beside_px: of the frame, what counts as beside
    """

    best: float = 0.9
    beside_px: float = 63.0

    def __call__(self, pair: Comparison) -> Bool[Tensor, "k"]:
        """Which matches are kept."""
        distance = (2 - 2 * pair.similarity).clamp(min=0).sqrt()
        found = pair.trg.xy_px[pair.nearest]
        beside = torch.cdist(found, pair.trg.xy_px) <= self.beside_px
        second = distance.masked_fill(beside, torch.inf).amin(1)
        return distance.gather(1, pair.nearest.unsqueeze(1)).squeeze(1) <= self.best * second


class Link(NamedTuple):
    """For each of ``k`` cells of the source: the target's cell, whether it is kept, and its weight from 0 to 1."""

    trg: Int[Tensor, "k"]
    keep: Bool[Tensor, "k"]
    weight: Float[Tensor, "k"]


def link(pair: Comparison, filters: Sequence[Filter]) -> Link:
    """Matches of the source's cells; the weight halves where the way back ends a tenth of the subject away."""
    keep = torch.ones_like(pair.nearest, dtype=torch.bool)
    for one in filters:
        keep = keep & one(pair)
    weight = 1 / (1 + (pair.back_px / (0.1 * pair.src.extent_px)) ** 2)
    return Link(pair.nearest, keep, weight)
