"""What matching, losses and metrics may ask of a batch's descriptors, however these are kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

Source = Literal["bilinear", "floor"]
"""How a point is read: between cells, at unit length; or the cell it lies in, as it is (the release)."""


class Queries(NamedTuple):
    """The ``k`` wanted keypoints of all rows, sorted by target view: each target is met in one product."""

    row: Int[Tensor, "k"]
    slot: Int[Tensor, "k"]
    view: Int[Tensor, "k"]
    xy_px: Float[Tensor, "k 2"]
    trg: Int[Tensor, "k"]

    @classmethod
    def of(
        cls,
        src: Int[Tensor, "b"],
        trg: Int[Tensor, "b"],
        src_xy_px: Float[Tensor, "b n 2"],
        wanted: Bool[Tensor, "b n"],
    ) -> Queries:
        """Padding slots cost nothing from here on: only the wanted ones are gathered."""
        row, slot = torch.nonzero(wanted, as_tuple=True)
        order = torch.argsort(trg[row], stable=True)
        row, slot = row[order], slot[order]
        return cls(row, slot, src[row], src_xy_px[row, slot], trg[row])

    def split(self, most: int) -> Iterator[Queries]:
        """Parts of at most ``most`` points; one empty part where there is none."""
        for parts in zip(*(field.split(max(1, most)) for field in self), strict=True):
            yield Queries(*parts)

    def spread(self, values: Shaped[Tensor, "k ..."], like: Shaped[Tensor, "b n"]) -> Shaped[Tensor, "b n ..."]:
        """Values back at their rows and slots, zero elsewhere; gradients pass."""
        return values.new_zeros(*like.shape, *values.shape[1:]).index_put((self.row, self.slot), values)


class Reads(NamedTuple):
    """Descriptors of ``m`` points, and the similarity of the first ``k`` of them to their target views."""

    points: Float[Tensor, "m c"]
    similarity: Float[Tensor, "k h w"]


class Bank(ABC):
    """The views of a batch as descriptors; whoever asks never indexes them.

    ``frame_px`` is the side of the frame that points are given in, ``grid`` the ``(h, w)`` of similarity maps, and
    ``finer`` the number of its cells per cell of the features along a side (1 unless a head makes the grid denser).
    ``unit`` says that descriptors have unit length, so that a similarity is a cosine; else it is a dot product of any
    size, and temperatures are of its size too.
    """

    frame_px: float
    finer: int = 1
    unit: bool = True

    @property
    @abstractmethod
    def grid(self) -> tuple[int, int]:
        """Cells ``(h, w)`` of a similarity map."""

    @property
    @abstractmethod
    def requires_grad(self) -> bool:
        """Whether answers are part of a graph, and so cannot be had in parts without holding all of it."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Memory that it takes."""

    @property
    def stride(self) -> float:
        """Frame px per cell of the grid."""
        return self.frame_px / self.grid[1]

    @abstractmethod
    def __len__(self) -> int:
        """Number of views."""

    @abstractmethod
    def at(
        self, view: Int[Tensor, "m"], xy_px: Float[Tensor, "m 2"], source: Source = "bilinear"
    ) -> Float[Tensor, "m c"]:
        """Descriptors at points of views; outside the frame those of its border."""

    @abstractmethod
    def similarity(self, descriptors: Float[Tensor, "k c"], view: Int[Tensor, "k"]) -> Float[Tensor, "k h w"]:
        """Similarity of each descriptor to every cell of its view; quickest where equal views stand together."""

    @abstractmethod
    def cells(self, view: int) -> Float[Tensor, "c h w"]:
        """Unit descriptors at the centres of the features' cells of one view: those of ``grid`` over ``finer``.

        They compare views as wholes, where more cells cost with their square and say no more.
        """

    @abstractmethod
    def hide(self, visible: Bool[Tensor, "u h w"]) -> Bank:
        """The bank with similarity 0 to what is not visible: black bars are no place to be found in.

        ``visible`` is of the features' cells, as :meth:`cells` are.
        """

    @abstractmethod
    def join(self, others: Sequence[Bank]) -> Bank:
        """Its views, then those of other banks of its kind."""

    def read(
        self, view: Int[Tensor, "m"], xy_px: Float[Tensor, "m 2"], trg: Int[Tensor, "k"], source: Source = "bilinear"
    ) -> Reads:
        """Read ``m`` points and compare the first ``k`` with their target views: :meth:`at`, then :meth:`similarity`.

        One call, because a bank may answer both with one pass over its memory.
        """
        points = self.at(view, xy_px, source)
        return Reads(points, self.similarity(points[: len(trg)], trg))


def runs_of(view: Int[Tensor, "k"]) -> Iterator[tuple[int, slice]]:
    """Each run of equal views: the view and where it stands."""
    start = 0
    values, counts = torch.unique_consecutive(view, return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        yield value, slice(start, start + count)
        start += count


def full_precision(like: Tensor) -> torch.autocast:
    """Context in which autocast narrows nothing: bfloat16 similarities are off by a fifth of the temperature."""
    return torch.autocast(like.device.type, enabled=False)
