"""The plain bank: one descriptor per cell of its grid, that of the features or a finer one.

Everything works on points gathered from all rows, so that padding slots cost nothing, and meets each target view in
one product, so that no map is copied per row. It is quickest where the descriptors lie channels-last in memory, as the
refiners leave them; any layout gives the same answers. Low precision is for storage: descriptors in bfloat16 are
widened view by view, and the answers are those of their values in float32, under autocast too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from geoalign.bank.base import Bank, Reads, Source, full_precision, runs_of
from geoalign.geometry import FRAME_PX, Real, px_to_cell


@dataclass(frozen=True, eq=False)
class PlainBank(Bank):
    """Descriptors ``(u c h w)`` of ``u`` views, read bilinearly and compared by their dot product.

    They have unit length, and so have those that are read between them, unless ``unit`` is False.
    """

    descriptors: Float[Tensor, "u c h w"]
    frame_px: Real = FRAME_PX
    finer: int = 1
    unit: bool = True

    @property
    def grid(self) -> tuple[int, int]:
        h, w = self.descriptors.shape[-2:]
        return h, w

    @property
    def requires_grad(self) -> bool:
        return self.descriptors.requires_grad

    @property
    def nbytes(self) -> int:
        return self.descriptors.nbytes

    def __len__(self) -> int:
        return len(self.descriptors)

    def at(
        self, view: Int[Tensor, "m"], xy_px: Float[Tensor, "m 2"], source: Source = "bilinear"
    ) -> Float[Tensor, "m c"]:
        return self.read(view, xy_px, view[:0], source).points

    def similarity(self, descriptors: Float[Tensor, "k c"], view: Int[Tensor, "k"]) -> Float[Tensor, "k h w"]:
        cells = self._rows()
        with full_precision(cells):
            parts = [descriptors[run] @ cells[v].float().T for v, run in runs_of(view)]
        return torch.cat([descriptors.new_zeros(0, cells.shape[1]), *parts]).unflatten(-1, self.grid)

    def read(
        self, view: Int[Tensor, "m"], xy_px: Float[Tensor, "m 2"], trg: Int[Tensor, "k"], source: Source = "bilinear"
    ) -> Reads:
        """As :meth:`Bank.read`; all gradients meet in one buffer of the descriptors' size."""
        if source not in ("bilinear", "floor"):
            raise ValueError(f"source is bilinear or floor, got {source!r}")
        cell, weight = cells_of(xy_px, self.grid, self.stride, source)
        points, similarity = _Correlate.apply(self._rows(), view, cell, weight, trg, self.unit and source == "bilinear")
        return Reads(points, similarity.unflatten(-1, self.grid))

    def cells(self, view: int) -> Float[Tensor, "c h w"]:
        one = self.descriptors[view]
        if self.finer > 1:  # at the features' centres: between the fine cells around them
            size = (one.shape[1] // self.finer, one.shape[2] // self.finer)
            one = F.interpolate(one[None].float(), size, mode="bilinear", align_corners=False)[0]
        return one if self.unit and self.finer == 1 else F.normalize(one.float(), dim=0)

    def hide(self, visible: Bool[Tensor, "u h w"]) -> PlainBank:
        visible = visible.repeat_interleave(self.finer, 1).repeat_interleave(self.finer, 2)
        return replace(self, descriptors=self.descriptors * visible.unsqueeze(1))

    def join(self, others: Sequence[Bank]) -> PlainBank:
        every = [self, *cast(Sequence[PlainBank], others)]
        return replace(self, descriptors=torch.cat([bank.descriptors for bank in every]))

    def _rows(self) -> Float[Tensor, "u cells c"]:
        return self.descriptors.permute(0, 2, 3, 1).flatten(1, 2)


def cells_of(xy_px: Tensor, grid: tuple[int, int], stride: float, source: Source) -> tuple[Tensor, Tensor]:
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
    h, w = grid
    return y.clamp(0, h - 1) * w + x.clamp(0, w - 1), weight


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
            for v, run in runs_of(trg):
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
        for v, run in runs_of(trg):
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
