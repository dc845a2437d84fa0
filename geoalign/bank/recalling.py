"""A bank that is asked everything twice: by matching, and by the confidence in what was matched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geoalign.bank.base import Bank, Reads, Source

Question = tuple[Tensor, Tensor, Tensor, Source]


@dataclass(frozen=True, eq=False)
class RecallingBank(Bank):
    """Another bank, whose reads are kept until the same is asked again: then they are given away, not computed.

    Matching and its confidence need the same similarity maps, which cost more than all that is made of them. At most
    ``most_bytes`` are kept, the last ones; reads that are part of a graph are not.
    """

    own: Bank
    most_bytes: int = 64 * 2**20
    _kept: list[tuple[Question, Reads]] = field(default_factory=list, init=False, repr=False)

    @property
    def frame_px(self) -> float:  # type: ignore[override]
        return self.own.frame_px

    @property
    def finer(self) -> int:  # type: ignore[override]
        return self.own.finer

    @property
    def unit(self) -> bool:  # type: ignore[override]
        return self.own.unit

    @property
    def grid(self) -> tuple[int, int]:
        return self.own.grid

    @property
    def requires_grad(self) -> bool:
        return self.own.requires_grad

    @property
    def nbytes(self) -> int:
        return self.own.nbytes + sum(reads.similarity.nbytes for _, reads in self._kept)

    def __len__(self) -> int:
        return len(self.own)

    def at(
        self, view: Int[Tensor, "m"], xy_px: Float[Tensor, "m 2"], source: Source = "bilinear"
    ) -> Float[Tensor, "m c"]:
        return self.own.at(view, xy_px, source)

    def similarity(self, descriptors: Float[Tensor, "k c"], view: Int[Tensor, "k"]) -> Float[Tensor, "k h w"]:
        return self.own.similarity(descriptors, view)

    def cells(self, view: int) -> Float[Tensor, "c h w"]:
        return self.own.cells(view)

    def hide(self, visible: Bool[Tensor, "u h w"]) -> RecallingBank:
        return replace(self, own=self.own.hide(visible))

    def join(self, others: Sequence[Bank]) -> RecallingBank:
        return replace(self, own=self.own.join([one.own if isinstance(one, RecallingBank) else one for one in others]))

    def read(
        self, view: Int[Tensor, "m"], xy_px: Float[Tensor, "m 2"], trg: Int[Tensor, "k"], source: Source = "bilinear"
    ) -> Reads:
        """As the bank's own; a read that was kept is the asker's to write over, and forgotten."""
        question = view, xy_px, trg, source
        for place, (asked, reads) in enumerate(self._kept):
            if _same(asked, question):
                del self._kept[place]
                return reads
        reads = self.own.read(*question)
        if not reads.similarity.requires_grad:
            self._keep(question, reads)
        return reads

    def _keep(self, question: Question, reads: Reads) -> None:
        self._kept.append((question, reads))
        while self._kept and sum(one.similarity.nbytes for _, one in self._kept) > self.most_bytes:
            del self._kept[0]


def _same(one: Question, other: Question) -> bool:
    return one[3] == other[3] and all(
        a.shape == b.shape and torch.equal(a, b) for a, b in zip(one[:3], other[:3], strict=True)
    )
