"""ImCorr's continuous field: a descriptor at every point of a picture, decoded from the four cells around it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import reduce
from itertools import product
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from geoalign.bank import DecodedBank, forgetting, full_precision
from geoalign.geometry import FRAME_PX, Real
from geoalign.refiner.base import Refiner
from geoalign.refiner.heads.base import Head
from geoalign.types import Maps

Start = Literal["bilinear", "random"]


class FieldHead(Head):
    """A refiner's descriptors as a field (ImCorr): read exactly at a source point, compared on a denser target grid.

    ``F(x) = ψ(Σ_t w_t·f(z*_t, x − v_t) + Σ_t w_t·Z_t)`` over the four cell centres ``v_t`` around ``x`` with bilinear
    weights; ``f`` turns a projected descriptor by the offset (FiLM), then two layers (Eq. 5-8). Beyond the outermost
    centres the border goes on. Similarities are cosines.

    Args:
        finer: cells of the target's grid per cell of the features, along a side.
        around: compare on the fine grid only within so many cells of the features around each point's coarse peak, and
            between the coarse similarities elsewhere: every softmax stays one over the whole picture, and a truth that
            lies elsewhere costs a finite loss; null: on all of it, at ``(g / (2·around + 1))²`` times the work.
        start: bilinear: before the first step the field is bilinear interpolation | random: layers as they are drawn
            (the paper does not say).
        hidden: width of the two layers that see the offset.

    Raises:
        ValueError: a factor below 2, a negative distance, a width below 1, a foreign name.
    """

    def __init__(
        self,
        refiner: Refiner,
        finer: int = 4,
        around: int | None = None,
        start: Start = "bilinear",
        hidden: int = 64,
    ) -> None:
        super().__init__(refiner, finer)
        if around is not None and around < 0:
            raise ValueError(f"head.around is a number of cells, 0 or more, or null for the whole grid, got {around}")
        if start not in ("bilinear", "random"):
            raise ValueError(f"head.start is bilinear or random, got {start!r}")
        if hidden < 1:
            raise ValueError(f"head.hidden is a width above 0, got {hidden}")
        self.start, self.width = start, refiner.width
        self.decoder = FieldDecoder(refiner.width, finer, around, hidden)
        if start == "bilinear":
            self.decoder.start_bilinear()

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, the refiner by its recipe."""
        own = {"around": self.decoder.around, "start": self.start, "hidden": self.decoder.film[0].out_features}
        return {**super().config(), **own}

    def forward(self, maps: Maps) -> Float[Tensor, "u c g g"]:
        """The field at every fine cell of every view: large; :meth:`bank` decodes what is asked."""
        return torch.stack([self.decoder.everywhere(view) for view in self.coarse(maps)])

    def bank(self, maps: Maps, frame_px: Real = FRAME_PX) -> DecodedBank:
        """The views as fields."""
        return DecodedBank(self.coarse(maps), self.decoder, frame_px)


class Corner(NamedTuple):
    """One of the four cells around points: its descriptor, projected and raw, the offset from it, its weight."""

    projected: Float[Tensor, "m c"]
    raw: Float[Tensor, "m c"]
    offset: Float[Tensor, "#m 2"]
    weight: Float[Tensor, "#m 1"]


class Padded(NamedTuple):
    """A view's descriptors, projected and raw, with a border of one cell that goes on."""

    projected: Float[Tensor, "h w c"]
    raw: Float[Tensor, "h w c"]


class FieldDecoder(nn.Module):
    """The decoder shared by all pictures; ``width`` channels throughout.

    The fine grid is met phase by phase: all its cells that lie alike in their cell of the features share offsets and
    weights, so that the layers that see the offset run once per phase, and memory is that of one phase.
    """

    def __init__(self, width: int, finer: int, around: int | None = None, hidden: int = 64) -> None:
        super().__init__()
        self.finer, self.around = finer, around
        self.project = nn.Linear(width, width)  # the 1×1 convolution to z*
        self.film = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, 2 * width))
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.out = nn.Linear(width, width)  # ψ

    @property
    def whole(self) -> bool:
        """Whether similarities are over the whole fine grid."""
        return self.around is None

    @torch.no_grad()
    def start_bilinear(self) -> None:
        """Make the field bilinear interpolation: nothing of the decoder yet, and ψ the identity."""
        for value in (self.second.weight, self.second.bias, self.out.bias):
            value.zero_()
        nn.init.eye_(self.out.weight)

    def at(self, coarse: Float[Tensor, "c h w"], xy_cell: Float[Tensor, "m 2"]) -> Float[Tensor, "m c"]:
        """The field at points, in cells of the features."""
        raw, low = _padded(coarse), torch.floor(xy_cell)
        x, y = low.long().unbind(-1)
        near, corners = xy_cell - low, []
        for step in product((0, 1), (0, 1)):
            dx, dy = step
            cell = raw[(y + 1 + dy).clamp(0, raw.shape[0] - 1), (x + 1 + dx).clamp(0, raw.shape[1] - 1)]
            offset = near - near.new_tensor(step)
            weight = (1 - offset.abs()).prod(-1, keepdim=True)
            corners.append(Corner(self.project(cell), cell, offset, weight))
        return self._field(corners)

    def similarity(self, coarse: Float[Tensor, "c h w"], descriptors: Float[Tensor, "k c"]) -> Float[Tensor, "k fh fw"]:
        """Cosine of each descriptor with every fine cell, or with those around its coarse peak."""
        if self.around is not None:
            return self._similarity_around(coarse, descriptors)
        padded, f = self._prepared(coarse), self.finer
        parts = [forgetting(self._phase_similarity, padded, descriptors, phase) for phase in self._phases()]
        phases = torch.stack(parts).unflatten(0, (f, f))  # (fy fx k h w)
        return phases.permute(2, 3, 0, 4, 1).flatten(3, 4).flatten(1, 2)

    def cells(self, coarse: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
        """The field at the cells' centres, where one corner has all the weight."""
        raw = coarse.flatten(1).T
        nothing = raw.new_zeros(1, 2)
        corner = Corner(self.project(raw), raw, nothing, nothing[:, :1] + 1)
        return self._field([corner]).T.unflatten(1, coarse.shape[1:])

    def everywhere(self, coarse: Float[Tensor, "c h w"]) -> Float[Tensor, "c fh fw"]:
        """The field at every fine cell."""
        padded, f = self._prepared(coarse), self.finer
        phases = torch.stack([self._phase(padded, phase) for phase in self._phases()]).unflatten(0, (f, f))
        whole = phases.unflatten(2, coarse.shape[1:])  # (fy fx h w c)
        return whole.permute(4, 2, 0, 3, 1).flatten(3, 4).flatten(1, 2)

    def _similarity_around(self, coarse: Tensor, descriptors: Tensor) -> Tensor:
        f, (h, w) = self.finer, coarse.shape[1:]
        rough = _cosines(descriptors, forgetting(self.cells, coarse).flatten(1).T).unflatten(1, (h, w))
        filled = F.interpolate(rough[:, None], (h * f, w * f), mode="bilinear", align_corners=False)[:, 0]
        y, x = (window.unsqueeze(at) for at, window in zip((2, 1), self._windows(rough), strict=True))
        inside = (y * w + x).flatten(1)  # (k n) cells of the features
        cell, slot = torch.unique(inside, return_inverse=True)
        padded, places, values = self._prepared(coarse), [], []
        for phase in self._phases():
            some = forgetting(self._phase_similarity, padded, descriptors, phase, cell)
            values.append(some.gather(1, slot))
            places.append(((y * f + phase[1]) * (w * f) + x * f + phase[0]).flatten(1))
        fine = filled.flatten(1).scatter(1, torch.cat(places, 1), torch.cat(values, 1))
        return fine.view_as(filled)

    def _windows(self, rough: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and columns ``(k n)`` of the cells around each peak; at a border the window moves inside."""
        assert self.around is not None
        peak, (h, w) = rough.detach().flatten(1).argmax(1, keepdim=True), rough.shape[1:]
        sides = []
        for at, length in ((peak // w, h), (peak % w, w)):
            size = min(2 * self.around + 1, length)
            first = (at - self.around).clamp(0, length - size)
            sides.append(first + torch.arange(size, device=rough.device))
        return sides[0], sides[1]

    def _phases(self) -> Iterator[tuple[int, int]]:
        """Places ``(x, y)`` of a fine cell in its cell of the features, row by row."""
        return ((x, y) for y, x in product(range(self.finer), range(self.finer)))

    def _phase_similarity(
        self, padded: Padded, descriptors: Tensor, phase: tuple[int, int], cell: Tensor | None = None
    ) -> Tensor:
        found = _cosines(descriptors, self._phase(padded, phase, cell))
        h, w = padded.raw.shape[0] - 2, padded.raw.shape[1] - 2
        return found.unflatten(1, (h, w)) if cell is None else found

    def _phase(self, padded: Padded, phase: tuple[int, int], cell: Tensor | None = None) -> Float[Tensor, "m c"]:
        """The field at one fine cell of every cell of the features, or of those listed."""
        place = [(at + 0.5) / self.finer - 0.5 for at in phase]
        low = [math.floor(at) for at in place]
        w = padded.raw.shape[1] - 2
        corners = []
        for step in product((0, 1), (0, 1)):
            offset = [at - first - one for at, first, one in zip(place, low, step, strict=True)]
            weight = math.prod(1 - abs(one) for one in offset)
            if weight == 0:
                continue
            x, y = (1 + first + one for first, one in zip(low, step, strict=True))
            projected, raw = (
                _shifted(one, x, y) if cell is None else one[cell // w + y, cell % w + x] for one in padded
            )
            corners.append(Corner(projected, raw, raw.new_tensor([offset]), raw.new_tensor([[weight]])))
        return self._field(corners)

    def _field(self, corners: list[Corner]) -> Float[Tensor, "m c"]:
        """Eq. 5-8 at ``m`` points; the second layer is linear and the weights sum to one, so it runs once."""
        turned = reduce(torch.add, (one.weight * self._turned(one) for one in corners))
        skip = reduce(torch.add, (one.weight * one.raw for one in corners))
        return F.normalize(self.out(self.second(turned) + skip).float(), dim=1)

    def _turned(self, corner: Corner) -> Tensor:
        gain, shift = self.film(corner.offset).chunk(2, dim=1)
        return F.relu(self.first(F.relu((1 + gain) * corner.projected + shift)))

    def _prepared(self, coarse: Tensor) -> Padded:
        raw = _padded(coarse)
        return Padded(self.project(raw), raw)


def _padded(coarse: Tensor) -> Float[Tensor, "h w c"]:
    """A view channels-last, with a border of one cell that repeats the outermost."""
    return F.pad(coarse[None].float(), (1, 1, 1, 1), mode="replicate")[0].permute(1, 2, 0)


def _shifted(padded: Tensor, x: int, y: int) -> Float[Tensor, "m c"]:
    """All cells of the features, seen from ``(x, y)`` of the padded map."""
    h, w = padded.shape[0] - 2, padded.shape[1] - 2
    return padded[y : y + h, x : x + w].reshape(h * w, -1)


def _cosines(descriptors: Tensor, cells: Tensor) -> Float[Tensor, "k m"]:
    with full_precision(cells):
        return descriptors.float() @ cells.float().T
