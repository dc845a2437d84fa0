"""Distance between soft-argmax predictions and the true points."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from geoalign.bank import Bank
from geoalign.geometry import px_to_cell
from geoalign.losses.base import START, Moment, Term
from geoalign.losses.reads import RowReads, row_mean
from geoalign.matching import Matcher
from geoalign.types import PairBatch

Target = Literal["cell", "released"]
Unit = Literal["features", "own"]


class DenseLoss(Term):
    """Mean Euclidean distance in cells between predicted and true points (docs/protocol.md#losses).

    Args:
        matcher: how training reads a similarity map.
        target: cell: truth in cell coordinates, exact | released: ``predicted − floor(src)`` against ``trg − src``,
            which carries up to a cell of quantisation noise.
        label_noise: sigma of the truth's noise in units of ``size / 2`` (PCK size, in cells); it multiplies the batch's
            unit normals ``noise``.
        unit: what a cell is, of ``matcher.radius``, ``matcher.sigma`` and the distance: features: those of the
            features, also where a head makes the target's grid finer, so that loss and window keep their size | own:
            those of the target's own grid.

    Raises:
        ValueError: A target or unit that is not listed, or a matcher without gradient.
    """

    cells = True

    def __init__(
        self, matcher: Matcher, target: Target = "cell", label_noise: float = 0.1, unit: Unit = "features"
    ) -> None:
        super().__init__()
        if target not in ("cell", "released"):
            raise ValueError(f"loss.dense.target is cell or released, got {target!r}")
        if unit not in ("features", "own"):
            raise ValueError(f"loss.dense.unit is features or own, got {unit!r}")
        if matcher.readout == "argmax":
            raise ValueError("loss.dense.matcher.readout=argmax has no gradient; train with window, soft or kernel")
        self.matcher, self.target, self.label_noise = matcher, target, label_noise
        self.source, self.unit = matcher.source, unit

    def forward(
        self, bank: Bank, batch: PairBatch, moment: Moment = START, reads: RowReads | None = None
    ) -> Float[Tensor, "b"]:
        reads = reads or self.read(bank, batch)
        assert reads.similarity is not None
        row, slot = reads.queries.row, reads.queries.slot
        truth = self._truth(batch["src_xy_px"][row, slot], batch["trg_xy_px"][row, slot], bank.stride)
        truth = truth + self._noise(batch, bank.stride)[row, slot]
        finer = bank.finer if self.unit == "features" else 1
        distance = (self.matcher.read(reads.similarity, finer) - truth).norm(dim=-1) / finer
        return row_mean(distance, reads.queries, batch)

    def _truth(self, src_xy: Tensor, trg_xy: Tensor, stride: float) -> Tensor:
        if self.target == "cell":
            return px_to_cell(trg_xy, stride)
        return (trg_xy - src_xy) / stride + torch.floor(src_xy / stride)

    def _noise(self, batch: PairBatch, stride: float) -> Tensor:
        """Offsets in cells, drawn by content in the loader so that ranks and resumption cannot change them."""
        if not self.training or self.label_noise == 0:
            return torch.zeros_like(batch["trg_xy_px"])
        sigma = self.label_noise * batch["size_px"] / stride / 2
        return batch["noise"] * sigma.view(-1, 1, 1)
