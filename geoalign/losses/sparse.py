"""Contrastive loss between descriptors at mutually visible keypoints."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from geoalign.bank import Bank, Source, full_precision
from geoalign.losses.base import Moment, Term
from geoalign.losses.reads import RowReads, point_shares
from geoalign.types import PairBatch


class SparseLoss(Term):
    """Symmetric CLIP cross-entropy of ``exp(logit_scale)·⟨·,·⟩`` over a row's keypoints (docs/protocol.md#losses).

    Args:
        source: bilinear | floor (released): how a keypoint's descriptor is read.
    """

    ends = True
    plain_only = True
    learned_scale = True

    def __init__(self, source: Source = "bilinear") -> None:
        super().__init__()
        self.source: Source = source

    def forward(
        self, bank: Bank, batch: PairBatch, moment: Moment, reads: RowReads | None = None
    ) -> Float[Tensor, "b"]:
        """Loss per row, zero where no keypoint is visible in both views, and outside ``reads.paired``."""
        reads = reads or self.read(bank, batch)
        both = reads.paired[reads.queries.row]
        where = (reads.queries.row[both], reads.queries.slot[both])
        visible = batch["visible"] & reads.paired.unsqueeze(-1)
        empty = reads.src.new_zeros(*visible.shape, reads.src.shape[-1])
        src, trg = empty.index_put(where, reads.src[both]), empty.index_put(where, reads.trg)
        with full_precision(reads.src):
            logits = moment.inverse_temperature(None) * src @ trg.mT
        each = (_cross_entropy(logits, visible) + _cross_entropy(logits.mT, visible)) / 2
        return (each * point_shares(batch, reads.paired)).sum(-1)


def _cross_entropy(logits: Tensor, visible: Tensor) -> Tensor:
    """Of each visible slot of a row, else zero; the others are neither asked nor offered as an answer."""
    logits = logits.masked_fill(~visible.unsqueeze(1), -torch.inf)
    logits = torch.where(visible.unsqueeze(-1), logits, torch.zeros_like(logits))  # rows all −∞ would be NaN
    each = -F.log_softmax(logits, dim=-1).diagonal(dim1=-2, dim2=-1)
    return torch.where(visible, each, 0.0)
