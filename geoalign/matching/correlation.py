"""Descriptors at points, and their similarity to every cell of another view.

Everything here works on points gathered from all rows, so that padding slots cost nothing, and meets each
target view in one product, so that no map is copied per row. It is quickest where the bank lies channels-last
in memory, as the refiners leave it; any layout gives the same answers. Low precision is for storage: a bank in
bfloat16 is widened view by view, and the answers are those of its values in float32, under autocast too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from geoalign.geometry import px_to_cell

Source = Literal["bilinear", "floor"]
POINTS = 1024
"""Points correlated at once where no gradient is wanted: 15 MB of similarities at 60×60 cells."""


class Reads(NamedTuple):
    """Descriptors of ``m`` points, and the similarity of the first ``k`` of them to their target views."""

    points: Float[Tensor, "m c"]
    similarity: Float[Tensor, "k h w"]


def correlate(
    bank: Float[Tensor, "u c h w"],
    view: Int[Tensor, "m"],
    xy_px: Float[Tensor, "m 2"],
    trg: Int[Tensor, "k"],
    stride: float,
    source: Source = "bilinear",
) -> Reads:
    """Read points of ``bank[view]`` and compare the first ``k`` with every cell of ``bank[trg]``.

    Each run of equal ``trg`` is one matrix product: sort points by target. ``bilinear`` reads between cells and
    gives unit length; ``floor`` takes the cell that the point lies in as it is (the release). Points outside
    the frame read the nearest border cell. All gradients meet in one buffer of the bank's size.
    """
    if source not in ("bilinear", "floor"):
        raise ValueError(f"source is bilinear or floor, got {source!r}")
    h, w = bank.shape[-2:]
    cell, weight = _cells_of(xy_px, h, w, stride, source)
    points, similarity = _Correlate.apply(
        bank.permute(0, 2, 3, 1).flatten(1, 2), view, cell, weight, trg, source == "bilinear"
    )
    return Reads(points, similarity.unflatten(-1, (h, w)))


def sample_descriptors(
    bank: Float[Tensor, "u c h w"],
    view: Int[Tensor, "m"],
    xy_px: Float[Tensor, "m 2"],
    stride: float,
    source: Source = "bilinear",
) -> Float[Tensor, "m c"]:
    """The descriptors of :func:`correlate` alone."""
    return correlate(bank, view, xy_px, view[:0], stride, source).points


def full_precision(like: Tensor) -> torch.autocast:
    """Context in which autocast narrows nothing: bfloat16 similarities are off by a fifth of the temperature."""
    return torch.autocast(like.device.type, enabled=False)


def _cells_of(xy_px: Tensor, h: int, w: int, stride: float, source: Source) -> tuple[Tensor, Tensor]:
    """Cells ``(m f)`` that a point reads, row-major in its view, and their weights: four, or the one it lies in."""
    if source == "floor":
        low, step = torch.floor(xy_px / stride), torch.zeros(1, 2, device=xy_px.device)
        weight = torch.ones_like(xy_px[:, :1], dtype=torch.float32)
    else:
        xy_cell = px_to_cell(xy_px.float(), stride)
        low = torch.floor(xy_cell)
        frac = (xy_cell - low).unsqueeze(1)
        step = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]], device=xy_px.device)
        weight = torch.where(step.bool(), frac, 1 - frac).prod(-1)
    x, y = (low.unsqueeze(1) + step).long().unbind(-1)
    return y.clamp(0, h - 1) * w + x.clamp(0, w - 1), weight


def _runs(view: Tensor) -> Iterator[tuple[int, slice]]:
    """Each run of equal views: the view and where it stands."""
    start = 0
    values, counts = torch.unique_consecutive(view, return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        yield value, slice(start, start + count)
        start += count


class _Correlate(torch.autograd.Function):
    """Reading and correlating as one node: separate nodes would each fill and add a gradient as large as the bank."""

    @staticmethod
    def forward(
        ctx: Any, cells: Tensor, view: Tensor, cell: Tensor, weight: Tensor, trg: Tensor, unit: bool
    ) -> tuple[Tensor, Tensor]:
        with full_precision(cells):
            points = torch.einsum("mf,mfc->mc", weight, cells[view.unsqueeze(1), cell].float())
            length = points.norm(dim=-1, keepdim=True).clamp(min=1e-12) if unit else None
            if length is not None:
                points /= length
            similarity = points.new_empty(len(trg), cells.shape[1])
            for v, run in _runs(trg):
                torch.mm(points[run], cells[v].float().T, out=similarity[run])
        ctx.save_for_backward(cells, view, cell, weight, trg, points, length)
        return points, similarity

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_points: Tensor, g_similarity: Tensor) -> tuple[Tensor | None, ...]:
        cells, view, cell, weight, trg, points, length = ctx.saved_tensors
        gradient = torch.empty(cells.shape, device=cells.device)
        unmet = set(range(len(cells)))
        g_points = g_points.clone()
        for v, run in _runs(trg):
            g_points[run].addmm_(g_similarity[run], cells[v].float())
            # the first product of a view is written, not added: no pass over memory to clear it
            torch.addmm(gradient[v], g_similarity[run].T, points[run], beta=float(v not in unmet), out=gradient[v])
            unmet.discard(v)
        for v in unmet:
            gradient[v].zero_()
        if length is not None:
            g_points = (g_points - points * (g_points * points).sum(-1, keepdim=True)) / length
        where = (view.unsqueeze(1) * cells.shape[1] + cell).flatten()
        spread = weight.unsqueeze(-1) * g_points.unsqueeze(1)
        gradient.flatten(0, 1).index_add_(0, where, spread.flatten(0, 1))
        return gradient.to(cells.dtype), None, None, None, None, None
