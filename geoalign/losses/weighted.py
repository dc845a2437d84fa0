"""The only place with weights: parts and kinds of row into one number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from geoalign.bank import Bank
from geoalign.losses.dense import DenseLoss
from geoalign.losses.reads import RowReads, read_rows
from geoalign.losses.sparse import SparseLoss
from geoalign.types import KINDS, PairBatch


class Total(NamedTuple):
    """A weighted sum and its weight (kept apart so that ranks can add them), and the unweighted parts."""

    sum: Float[Tensor, ""]
    weight: Float[Tensor, ""]
    parts: dict[str, Tensor]

    @property
    def mean(self) -> Tensor:
        """Σ w·l / Σ w; zero with gradient where no row counts."""
        return self.sum / self.weight.clamp(min=torch.finfo(self.sum.dtype).tiny)


class WeightedSum(nn.Module):
    """Σ w_kind (w_sparse·sparse + w_dense·dense) / Σ w_kind over rows with a mutually visible keypoint.

    The sparse term enters plain rows only (docs/protocol.md#losses).

    Args:
        sparse: the contrastive term, or null.
        dense: the soft-argmax term, or null.
        kinds: weight of each kind of row: plain, single, double, self, rotated.
        sparse_weight: of the sparse loss in the sum.
        dense_weight: of the dense loss in the sum.

    Raises:
        ValueError: No term, no weight above 0, or an unknown kind.
    """

    kind_weight: Tensor

    def __init__(
        self,
        sparse: SparseLoss | None,
        dense: DenseLoss | None,
        kinds: Mapping[str, float],
        sparse_weight: float = 1.0,
        dense_weight: float = 1.0,
    ) -> None:
        super().__init__()
        unknown = sorted(set(kinds) - set(KINDS))
        if unknown or (sparse is None and dense is None) or not any(kinds.values()):
            raise ValueError(f"loss needs sparse or dense, and weights > 0 for kinds of {KINDS}; got {dict(kinds)}")
        self.sparse, self.dense = sparse, dense
        self.sparse_weight, self.dense_weight = sparse_weight, dense_weight
        self.kinds = {k: float(w) for k, w in kinds.items() if w}
        self.register_buffer("kind_weight", torch.tensor([kinds.get(k, 0.0) for k in KINDS]), persistent=False)

    def forward(self, bank: Bank, batch: PairBatch, logit_scale: Float[Tensor, ""] | None) -> Total:
        counted = batch["visible"].any(-1)
        weight = self.kind_weight[batch["kind"]] * batch["count"] * counted
        plain = batch["kind"] == KINDS.index("plain")
        reads = self._read(bank, batch, plain)
        row_loss, parts = torch.zeros_like(weight), {}
        if self.sparse is not None:
            if logit_scale is None:
                raise ValueError("the sparse loss needs a refiner that learns a scale; set loss.sparse=null")
            value = self.sparse(bank, batch, logit_scale, reads) * plain
            row_loss = row_loss + self.sparse_weight * value
            parts["sparse"] = _mean(value, plain & counted, batch["count"])
        if self.dense is not None:
            value = self.dense(bank, batch, reads)
            row_loss = row_loss + self.dense_weight * value
            for kind in torch.unique(batch["kind"]).tolist():
                parts[f"dense_{KINDS[kind]}"] = _mean(value, (batch["kind"] == kind) & counted, batch["count"])
        return Total((row_loss * weight).sum(), weight.sum(), parts)

    def _read(self, bank: Bank, batch: PairBatch, plain: Tensor) -> RowReads | None:
        """One pass over the bank for both terms, where they read it alike."""
        if self.sparse is None or self.dense is None or self.sparse.source != self.dense.matcher.source:
            return None
        return read_rows(bank, batch, self.sparse.source, plain)


def _mean(value: Tensor, chosen: Tensor, count: Tensor) -> Tensor:
    weight = chosen * count
    return (value.detach() * weight).sum() / weight.sum().clamp(min=1)
