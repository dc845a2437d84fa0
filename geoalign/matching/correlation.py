"""Descriptors at points, and their similarity to every cell of another view.

Everything here works on ``k`` points gathered from all rows, so that padding slots cost nothing, and
groups points by target view, so that no map is ever copied per row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from geoalign.geometry import px_to_cell

Source = Literal["bilinear", "floor"]


def sample_descriptors(
    bank: Float[Tensor, "u c h w"],
    view: Int[Tensor, "k"],
    xy_px: Float[Tensor, "k 2"],
    stride: float,
    source: Source = "bilinear",
) -> Float[Tensor, "k c"]:
    """Unit descriptors of ``bank[view]`` at points in frame pixels.

    ``bilinear`` reads between cells (sub-cell query); ``floor`` takes the cell the point lies in, as the
    release does. Points outside the frame read the nearest border cell.
    """
    if source == "floor":
        return _read_cells(bank, view, torch.floor(xy_px / stride).long())
    if source != "bilinear":
        raise ValueError(f"source is bilinear or floor, got {source!r}")
    return F.normalize(_read_bilinear(bank, view, px_to_cell(xy_px, stride)), dim=-1)


def similarity_by_view(
    descriptors: Float[Tensor, "k c"], bank: Float[Tensor, "u c h w"], view: Int[Tensor, "k"]
) -> Iterator[tuple[Int[Tensor, "j"], Float[Tensor, "j h w"]]]:
    """For each target view: which points ask for it, and their cosine similarity to all its cells.

    One matrix product per view; only one view's maps are alive at a time when no gradient is wanted.
    """
    h, w = bank.shape[-2:]
    maps = bank.flatten(-2).unbind(0)  # unbind: its gradient is one stack, not a full bank per view
    for v in torch.unique(view).tolist():
        chosen = torch.nonzero(view == v).squeeze(1)
        yield chosen, (descriptors[chosen] @ maps[v]).unflatten(-1, (h, w))


def _read_cells(bank: Tensor, view: Tensor, cell: Tensor) -> Tensor:
    h, w = bank.shape[-2:]
    return bank[view, :, cell[..., 1].clamp(0, h - 1), cell[..., 0].clamp(0, w - 1)]


def _read_bilinear(bank: Tensor, view: Tensor, xy_cell: Tensor) -> Tensor:
    """All four corners in one look-up: its gradient is one scatter into the bank instead of four."""
    low = torch.floor(xy_cell)
    frac = xy_cell - low
    step = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]], device=xy_cell.device)
    corners = low.long().unsqueeze(1) + step
    weight = torch.where(step.bool(), frac.unsqueeze(1), 1 - frac.unsqueeze(1)).prod(-1)
    values = _read_cells(bank, view.unsqueeze(1).expand(-1, 4), corners)
    return torch.einsum("kf,kfc->kc", weight.to(bank.dtype), values)
