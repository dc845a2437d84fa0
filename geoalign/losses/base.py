"""What a term of the weighted sum is, and what it may know of the training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from geoalign.bank import Bank, Source
from geoalign.losses.reads import RowReads, read_rows
from geoalign.losses.schedule import Scheduled
from geoalign.types import PairBatch


class Moment(NamedTuple):
    """The training at one step: the log temperature that the refiner learns (or None), and where it stands."""

    scale: Float[Tensor, ""] | None = None
    step: int = 0
    """Optimiser steps that are behind, the same on every rank and after a resumption."""
    steps: int | None = None
    """Optimiser steps of the whole training; None where it has no end."""
    teacher: Bank | None = None
    """The batch's views as the average of the weights over steps describes them, where a term wants a teacher."""

    def inverse_temperature(self, temperature: float | None) -> Float[Tensor, ""] | float:
        """What similarities are multiplied by: of a fixed temperature, or as the refiner learns it (None)."""
        if temperature is not None:
            return 1 / temperature
        assert self.scale is not None, "the weighted sum has checked that there is one"
        return self.scale.exp()


START = Moment()
"""Where nothing is learned beside the descriptors, and nothing changes over training."""


class Term(nn.Module, ABC):
    """One loss per row; :class:`geoalign.losses.WeightedSum` weighs terms and kinds of row, and nobody else does.

    A subclass says how it reads keypoints, so that terms that read alike share one pass over the bank.
    """

    source: Source | None = None
    """How keypoints are read; None where it asks the bank by itself."""
    cells: bool = False
    """Whether it wants visible keypoints compared with all cells of their target view."""
    ends: bool = False
    """Whether it wants descriptors at the true points in the target view, too."""
    plain_only: bool = False
    """Whether it enters plain rows only."""
    learned_scale: bool = False
    """Whether it needs a refiner that learns a scale."""

    teacher_decay: Scheduled | None = None
    """Decay of the weights' average that it wants as a teacher, or None."""
    mask_side: int | None = None
    """Side in px of the masks of subjects that it wants of every view, or None."""

    @abstractmethod
    def forward(
        self, bank: Bank, batch: PairBatch, moment: Moment, reads: RowReads | None = None
    ) -> Float[Tensor, "b"]:
        """The unweighted loss of every row, zero where nothing of it counts."""

    def counts(self, batch: PairBatch) -> Bool[Tensor, "b"]:
        """Rows that it has something to say about; here those with a keypoint that is visible in both views."""
        return batch["visible"].any(-1)

    def check(self, steps: int | None) -> None:
        """Refuse a schedule that a training of so many steps would not reach the end of (``ValueError``)."""

    def read(self, bank: Bank, batch: PairBatch) -> RowReads:
        """What it reads where it is alone."""
        assert self.source is not None
        paired = torch.full_like(batch["src"], self.ends, dtype=torch.bool)
        return read_rows(bank, batch, self.source, paired, dense=self.cells)
