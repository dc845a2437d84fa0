"""Points that are matched together: do their matches keep the shape that the points have?

A constellation is the points of one row that are read in one view. All work is on points ``(k …)`` of all rows at once;
their order and whatever else is in the batch change nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

ROUNDS = 10
"""Of least squares, each with less weight on what the one before did not fit."""
RIDGE = 0.1
"""Pull of the affine map towards none, in points: few points, or points on a line, leave it open."""


class Constellations(NamedTuple):
    """Points in groups, padded to the largest: ``group`` and ``place`` of each of ``k`` points in ``(g m)``."""

    group: Int[Tensor, "k"]
    place: Int[Tensor, "k"]
    there: Bool[Tensor, "g m"]

    @classmethod
    def of(cls, row: Int[Tensor, "k"], view: Int[Tensor, "k"]) -> Constellations:
        """One group for every row and view that occur together."""
        _, group, count = torch.unique(torch.stack([row, view], 1), dim=0, return_inverse=True, return_counts=True)
        order, start = torch.argsort(group, stable=True), count.cumsum(0) - count
        place = torch.empty_like(group)
        place[order] = torch.arange(len(group), device=group.device) - start[group[order]]
        most = int(count.max()) if len(count) else 1
        return cls(group, place, torch.arange(most, device=group.device) < count.unsqueeze(1))

    def company(self) -> Int[Tensor, "k"]:
        """How many points each point's group holds."""
        return self.there.sum(1)[self.group]

    def padded(self, values: Float[Tensor, "k *d"]) -> Float[Tensor, "g m *d"]:
        """Values of points, group by group, zero where there is none."""
        return values.new_zeros(*self.there.shape, *values.shape[1:]).index_put((self.group, self.place), values)

    def extent(self, xy_px: Float[Tensor, "k 2"]) -> Float[Tensor, "k"]:
        """The longer side of the box around each point's group, px."""
        each, hidden = self.padded(xy_px), ~self.there.unsqueeze(-1)
        low = each.masked_fill(hidden, torch.inf).amin(1)
        return (each.masked_fill(hidden, -torch.inf).amax(1) - low).amax(1)[self.group]

    def mean(self, values: Float[Tensor, "k"]) -> Float[Tensor, "k"]:
        """Mean over each point's group."""
        return (self.padded(values).sum(1) / self.there.sum(1))[self.group]


class Shape(NamedTuple):
    """How a match sits in the robust affine map of its constellation."""

    residual: Float[Tensor, "k"]
    """Distance from where the map of the *other* points takes the point; shares of the points' extent."""
    determinant: Float[Tensor, "k"]
    """Of the map: how much larger the area is; below 0 where it is a mirror image."""


def shape(
    groups: Constellations,
    src_xy_px: Float[Tensor, "k 2"],
    trg_xy_px: Float[Tensor, "k 2"],
    extent_px: Float[Tensor, "k"],
) -> Shape:
    """Fit ``target ≈ A · source + t`` per constellation, robustly (Cauchy weights at the median residual)."""
    weight = groups.there.float()
    scale = groups.padded(extent_px).amax(1)[:, None, None]
    source, target = (_centred(groups.padded(xy), weight) / scale for xy in (src_xy_px, trg_xy_px))
    points = torch.cat([source, torch.ones_like(source[..., :1])], -1)
    ridge = torch.diag(points.new_tensor([RIDGE, RIDGE, 1e-4]))
    for _ in range(ROUNDS):
        weighted = points * weight.unsqueeze(-1)
        gram = weighted.mT @ points + ridge
        fit = torch.linalg.solve(gram, weighted.mT @ target)
        residual = (points @ fit - target).norm(dim=-1)
        middle = residual.masked_fill(~groups.there, torch.nan).nanmedian(1, keepdim=True).values.clamp(min=0.02)
        before, weight = weight, groups.there / (1 + (residual / middle) ** 2)
    # a point pulls the map towards itself by its leverage; without it the residual is so much larger
    leverage = before * (points * torch.linalg.solve(gram, points.mT).mT).sum(-1)
    alone = residual / (1 - leverage).clamp(min=0.05)
    return Shape(alone[groups.group, groups.place], torch.det(fit[:, :2])[groups.group])


def _centred(each: Tensor, there: Tensor) -> Tensor:
    return (each - each.sum(1, keepdim=True) / there.sum(1)[:, None, None]) * there.unsqueeze(-1)
