"""What the losses read of the bank: the terms share their descriptors and their pass over each view."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geoalign.bank import Bank, Queries, Source
from geoalign.types import PairBatch


class RowReads(NamedTuple):
    """The ``k`` visible keypoints of all rows, sorted by target view; ``j`` of them are in ``paired`` rows."""

    queries: Queries
    src: Float[Tensor, "k c"]
    trg: Float[Tensor, "j c"]
    similarity: Float[Tensor, "k h w"] | None
    paired: Bool[Tensor, "b"]


def read_rows(
    bank: Bank,
    batch: PairBatch,
    source: Source,
    paired: Bool[Tensor, "b"] | None = None,
    dense: bool = True,
) -> RowReads:
    """Read visible keypoints in their source views, those of ``paired`` rows (default: all) in the target too.

    ``dense`` also compares each with all cells of its target view. One read for both ends: the gradients of all points
    then meet in one buffer as large as the bank, where two reads would fill and add two.
    """
    queries = Queries.of(batch["src"], batch["trg"], batch["src_xy_px"], batch["visible"])
    paired = torch.ones_like(batch["visible"][:, 0]) if paired is None else paired
    both = paired[queries.row]
    view = torch.cat([queries.view, queries.trg[both]])
    xy_px = torch.cat([queries.xy_px, batch["trg_xy_px"][queries.row, queries.slot][both]])
    points, similarity = bank.read(view, xy_px, queries.trg if dense else queries.trg[:0], source)
    src, trg = points.split([len(queries.row), len(points) - len(queries.row)])
    return RowReads(queries, src, trg, similarity if dense else None, paired)


def row_mean(each: Float[Tensor, "k"], queries: Queries, batch: PairBatch) -> Float[Tensor, "b"]:
    """Mean over each row of what its visible keypoints lose, by their weights; zero where a row has none."""
    shares = point_shares(batch)[queries.row, queries.slot]
    return each.new_zeros(len(batch["visible"])).index_add(0, queries.row, each * shares)


def point_shares(batch: PairBatch, rows: Bool[Tensor, "b"] | None = None) -> Float[Tensor, "b n"]:
    """What each visible keypoint counts in its row, one in all; zero where none is visible, and outside ``rows``."""
    visible = batch["visible"] if rows is None else batch["visible"] & rows.unsqueeze(-1)
    weight = visible * batch["weight"] if "weight" in batch else visible.float()
    return weight / weight.sum(-1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
