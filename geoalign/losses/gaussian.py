"""Cross-entropy between a softmax over the target view and a Gaussian at the true point."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from geoalign.bank import Bank, Source, full_precision
from geoalign.geometry import Real, px_to_cell
from geoalign.losses.base import START, Moment, Term
from geoalign.losses.reads import RowReads, row_mean
from geoalign.losses.schedule import Cosine, Scheduled, value_at
from geoalign.types import PairBatch

Form = Literal["cells", "lattice"]


def cells_cross_entropy(
    logits: Float[Tensor, "k h w"],
    xy_cell: Float[Tensor, "k 2"],
    sigma: Real,
    side: int | None = None,
    renormalise: bool = True,
) -> Float[Tensor, "k"]:
    """``−Σ_c g(c) log softmax(logits)(c)`` over cells c, g a Gaussian of ``sigma`` cells around the true point.

    ``side``: only over the ``side × side`` cells around the nearest cell. g sums to 1 (``renormalise``), or is the
    density ``exp(−r²/2σ²)/2πσ²``. As g is a product of x and y, no map of it is made: memory is that of the softmax.
    """
    h, w = logits.shape[-2:]
    gx, gy = (_bell(length, xy_cell[:, i], sigma, side) for i, length in enumerate((w, h)))
    mass = gx.sum(-1) * gy.sum(-1)
    with full_precision(logits):
        inner = torch.einsum("kh,khw,kw->k", gy, logits, gx)
        loss = mass * logits.flatten(1).logsumexp(-1) - inner
    return loss / (mass if renormalise else 2 * math.pi * sigma**2)


def lattice_cross_entropy(
    logits: Float[Tensor, "k h w"],
    xy_cell: Float[Tensor, "k 2"],
    sigma: Real,
    side: int,
    renormalise: bool = True,
    floor: Real = 0.0,
) -> Float[Tensor, "k"]:
    """``−Σ_d g(d) log(P(t + d) + floor)`` over a lattice of unit steps d around the true point t.

    ``P`` is the softmax over all cells, read bilinearly between them; g as in :func:`cells_cross_entropy`, of the
    lattice's own points, 0 for those more than half a cell beyond the outermost centres. P is mixed as logarithms: it
    cannot underflow.
    """
    h, w = logits.shape[-2:]
    low = torch.floor(xy_cell)
    step = torch.arange(side + 1, device=logits.device) - side // 2
    x, y = (low.long()[:, i : i + 1] + step for i in (0, 1))
    index = y.clamp(0, h - 1).unsqueeze(-1) * w + x.clamp(0, w - 1).unsqueeze(-2)  # (k side+1 side+1)
    near = logits.flatten(1).gather(1, index.flatten(1)).view(index.shape)
    frac = xy_cell - low
    mixed = _mix(_mix(near, frac[:, :1, None]).mT, frac[:, 1:, None]).mT  # along x, then along y
    log_p = mixed - logits.flatten(1).logsumexp(-1)[:, None, None]
    if floor:
        log_p = torch.logaddexp(log_p, log_p.new_tensor(math.log(floor)))
    offset = step[:-1].to(logits)
    bell = torch.exp(-(offset**2) / (2 * sigma**2))
    inside_x, inside_y = (
        ((at := xy_cell[:, i : i + 1] + offset) >= -0.5) & (at <= length - 0.5) for i, length in enumerate((w, h))
    )
    g = (bell * inside_y).unsqueeze(-1) * (bell * inside_x).unsqueeze(-2)
    return -(g * log_p).sum((-2, -1)) / (g.sum((-2, -1)) if renormalise else 2 * math.pi * sigma**2)


def _bell(length: int, centre: Tensor, sigma: Real, side: int | None) -> Tensor:
    """``exp(−(c − centre)²/2σ²)`` at every position c of an axis, 0 further than ``side // 2`` from the nearest."""
    offset = torch.arange(length, device=centre.device) - centre.unsqueeze(-1)
    bell = torch.exp(-(offset**2) / (2 * sigma**2))
    if side is None:
        return bell
    nearest = torch.floor(centre + 0.5).clamp(0, length - 1).unsqueeze(-1)
    return bell * ((torch.arange(length, device=centre.device) - nearest).abs() <= side // 2)


def _mix(logits: Tensor, share: Tensor) -> Tensor:
    """``log((1 − share)·exp(left) + share·exp(right))`` of neighbours along the last axis."""
    return torch.logaddexp(logits[..., :-1] + torch.log1p(-share), logits[..., 1:] + share.log())


class GaussianLoss(Term):
    """Cross-entropy of each keypoint's softmax over the target view against a Gaussian at the truth.

    Mean over a row's keypoints (docs/protocol.md#losses-of-later-methods). Similarities are the bank's own: cosines, or
    dot products where it keeps lengths.

    Args:
        sigma: of the Gaussian, in cells of the target's own grid (the fine one, where a head makes it finer); a number,
            or a schedule such as geoalign.losses.Cosine.
        form: cells: the Gaussian on the map's cells | lattice: on unit steps around the true point, between cells.
        side: so many cells or lattice points a side (odd); null = the whole map, for cells only.
        temperature: of the softmax; null = the scale that the refiner learns.
        renormalise: true: the Gaussian's weights sum to 1 | false: its density, less where the border cuts it off.
        floor: added to probabilities before the logarithm; for lattice only.
        source: bilinear | floor: how a keypoint's descriptor is read.

    Raises:
        ValueError: A name that is not listed, an even side, a lattice of the whole map, a sigma or temperature that is
            not above 0.
    """

    cells = True

    def __init__(
        self,
        sigma: Scheduled = 1.5,
        form: Form = "cells",
        side: int | None = None,
        temperature: float | None = 0.03,
        renormalise: bool = True,
        floor: float = 0.0,
        source: Source = "bilinear",
    ) -> None:
        super().__init__()
        if form not in ("cells", "lattice") or source not in ("bilinear", "floor"):
            raise ValueError(
                f"loss.gaussian.form is cells or lattice, its source bilinear or floor; got {form!r}, {source!r}"
            )
        if (side is None and form == "lattice") or (side is not None and (side < 1 or side % 2 == 0)):
            raise ValueError(f"loss.gaussian.side is odd, or null with form=cells; got {side} with form={form}")
        if floor < 0 or (floor and form == "cells"):
            raise ValueError(f"loss.gaussian.floor is 0, or above with form=lattice; got {floor} with form={form}")
        widths = (sigma.start, sigma.end) if isinstance(sigma, Cosine) else (sigma,)
        if min(widths) <= 0 or (temperature is not None and temperature <= 0):
            raise ValueError(f"loss.gaussian needs sigma > 0 and temperature > 0, got {sigma} and {temperature}")
        self.sigma, self.form, self.side, self.temperature = sigma, form, side, temperature
        self.renormalise, self.floor, self.source = renormalise, floor, source
        self.learned_scale = temperature is None

    def forward(
        self, bank: Bank, batch: PairBatch, moment: Moment = START, reads: RowReads | None = None
    ) -> Float[Tensor, "b"]:
        reads = reads or self.read(bank, batch)
        assert reads.similarity is not None
        row, slot = reads.queries.row, reads.queries.slot
        truth = px_to_cell(batch["trg_xy_px"][row, slot], bank.stride)
        logits = reads.similarity * moment.inverse_temperature(self.temperature)
        sigma = value_at(self.sigma, moment.step, moment.steps)
        if self.form == "cells":
            each = cells_cross_entropy(logits, truth, sigma, self.side, self.renormalise)
        else:
            assert self.side is not None
            each = lattice_cross_entropy(logits, truth, sigma, self.side, self.renormalise, self.floor)
        return row_mean(each, reads.queries, batch)

    def check(self, steps: int | None) -> None:
        if isinstance(self.sigma, Cosine):
            self.sigma.check("loss.gaussian.sigma", steps)
