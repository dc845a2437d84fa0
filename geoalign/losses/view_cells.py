"""Cells of whole views, and which of them are the subject's: for losses that look beyond keypoints."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from geoalign.bank import Bank
from geoalign.types import PairBatch


def cell_grid(bank: Bank, side: int) -> tuple[int, int]:
    """Cells ``(h, w)`` of the features, at most ``side`` a side; a head makes the grid finer, and these no more."""
    h, w = bank.grid
    return min(h // bank.finer, side), min(w // bank.finer, side)


def unit_cells(bank: Bank, view: int, side: int) -> Float[Tensor, "c h w"]:
    """Unit descriptors of a view on :func:`cell_grid`, to which more cells are averaged."""
    return F.normalize(F.adaptive_avg_pool2d(bank.cells(view).float(), cell_grid(bank, side)), dim=0)


def masked_cells(batch: PairBatch, view: int, size: tuple[int, int], term: str) -> Bool[Tensor, "h w"]:
    """Cells of ``size = (h, w)`` that are the subject's by half or more.

    Raises:
        ValueError: the batch has no masks.
    """
    masks = batch["views"].get("masks")
    if masks is None:
        raise ValueError(f"loss.{term} tells subject from background, and the batch has no masks of its views")
    return F.adaptive_avg_pool2d(masks[view][None].float(), size)[0] >= 0.5
