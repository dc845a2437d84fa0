"""Contrastive loss between descriptors at mutually visible keypoints."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from geoalign.geometry import FRAME_PX
from geoalign.matching.correlation import Source, sample_descriptors
from geoalign.types import PairBatch


class SparseLoss(nn.Module):
    """Symmetric CLIP cross-entropy of ``exp(logit_scale)·⟨·,·⟩`` over a row's keypoints (PROTOCOL §5)."""

    def __init__(self, source: Source = "bilinear", frame_px: int = FRAME_PX) -> None:
        super().__init__()
        self.source, self.frame_px = source, frame_px

    def forward(
        self, bank: Float[Tensor, "u c h w"], batch: PairBatch, logit_scale: Float[Tensor, ""]
    ) -> Float[Tensor, "b"]:
        """Loss per row, zero where no keypoint is visible in both views."""
        src = self._descriptors(bank, batch, "src")
        trg = self._descriptors(bank, batch, "trg")
        logits = logit_scale.exp() * src @ trg.mT
        visible = batch["visible"]
        return (_cross_entropy(logits, visible) + _cross_entropy(logits.mT, visible)) / 2

    def _descriptors(self, bank: Tensor, batch: PairBatch, end: str) -> Tensor:
        visible = batch["visible"]
        view, xy_px = (batch["src"], batch["src_xy_px"]) if end == "src" else (batch["trg"], batch["trg_xy_px"])
        row, slot = torch.nonzero(visible, as_tuple=True)
        found = sample_descriptors(bank, view[row], xy_px[visible], self.frame_px / bank.shape[-1], self.source)
        padded = found.new_zeros(*visible.shape, found.shape[-1])
        return padded.index_put((row, slot), found)


def _cross_entropy(logits: Tensor, visible: Tensor) -> Tensor:
    """Mean over a row's visible slots; the others are neither asked nor offered as an answer."""
    logits = logits.masked_fill(~visible.unsqueeze(1), -torch.inf)
    logits = torch.where(visible.unsqueeze(-1), logits, torch.zeros_like(logits))  # rows all −∞ would be NaN
    each = -F.log_softmax(logits, dim=-1).diagonal(dim1=-2, dim2=-1)
    return torch.where(visible, each, 0.0).sum(-1) / visible.sum(-1).clamp(min=1)
