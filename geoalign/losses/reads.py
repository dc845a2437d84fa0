"""What the losses read of the bank: the terms share their descriptors and their pass over each view."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geoalign.matching.correlation import Source, correlate
from geoalign.types import PairBatch


class RowReads(NamedTuple):
    """The ``k`` visible keypoints of all rows, sorted by target view; ``j`` of them are in ``paired`` rows."""

    row: Int[Tensor, "k"]
    slot: Int[Tensor, "k"]
    src: Float[Tensor, "k c"]
    trg: Float[Tensor, "j c"]
    similarity: Float[Tensor, "k h w"] | None
    paired: Bool[Tensor, "b"]


def read_rows(
    bank: Float[Tensor, "u c h w"],
    batch: PairBatch,
    source: Source,
    frame_px: int,
    paired: Bool[Tensor, "b"] | None = None,
    dense: bool = True,
) -> RowReads:
    """Read visible keypoints in their source views, those of ``paired`` rows (default: all) in the target too.

    ``dense`` also compares each with all cells of its target view.
    """
    visible = batch["visible"]
    paired = torch.ones_like(visible[:, 0]) if paired is None else paired
    row, slot = torch.nonzero(visible, as_tuple=True)
    order = torch.argsort(batch["trg"][row], stable=True)
    row, slot = row[order], slot[order]
    both = paired[row]
    view = torch.cat([batch["src"][row], batch["trg"][row[both]]])
    xy_px = torch.cat([batch["src_xy_px"][row, slot], batch["trg_xy_px"][row[both], slot[both]]])
    wanted = batch["trg"][row] if dense else row[:0]
    points, similarity = correlate(bank, view, xy_px, wanted, frame_px / bank.shape[-1], source)
    src, trg = points.split([len(row), len(points) - len(row)])
    return RowReads(row, slot, src, trg, similarity if dense else None, paired)
