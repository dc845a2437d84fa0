"""A transport plan between all cells of both views, taught where keypoints go, and where they must not."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from geoalign.bank import Bank, full_precision
from geoalign.losses.base import START, Moment, Term
from geoalign.losses.reads import RowReads
from geoalign.losses.sinkhorn import log_plan
from geoalign.losses.view_cells import cell_grid, masked_cells, unit_cells
from geoalign.types import PairBatch

SUBJECT = 0.9
"""Mass of the subject's cells where all keypoints are found again; the background's cells share what is left."""
LEAST = 1e-6
"""Where a mass or 1 − p would be 0, so that logarithms are finite."""


class End(NamedTuple):
    """One view of a row: the cells ``(row-major)`` of its keypoint slots, which are seen, and its subject's cells."""

    cell: Int[Tensor, "n"]
    seen: Bool[Tensor, "n"]
    subject: Bool[Tensor, "cells"]


class TransportLoss(Term):
    """GECO's loss: matches, "not to be seen", mirror parts and background, on one transport plan between all cells.

    The plan (:func:`geoalign.losses.sinkhorn.log_plan`) joins cells of both views and a bin on either side. With p its
    entries and N cells and a bin, a row's loss is N times: mean ``−log p/N`` at matches; the same to the bin for
    keypoints that one view alone shows; mean ``−log(1 − p)`` from keypoints to their mirror part; and from the subject
    of one view to the background of the other. The factor N gives it the size of a logarithm; weights keep their ratios
    (docs/protocol.md#losses-of-later-methods).

    Rows are computed one by one and again in the backward pass: memory is that of one row, about six maps of
    ``side⁴`` numbers (20 MB at 30, 45 MB at 37, 310 MB at 60), beside ``side²`` descriptors for every view.

    Args:
        side: cells a side of the plan; finer maps are averaged to it (GECO's own grid: 37).
        bin_score: similarity of everything to a bin.
        entropy: how soft the plan is.
        relaxation: how much the plan pays for marginals that are not kept.
        iterations: of Sinkhorn.
        match: weight of matches within the term.
        unseen: weight of keypoints that one view alone shows.
        mirror: weight of mirror parts.
        background: weight of subject to background.

    Raises:
        ValueError: a side, entropy, relaxation or number of iterations that is not above 0.
    """

    mask_side = 120

    def __init__(
        self,
        side: int = 30,
        bin_score: float = 0.3,
        entropy: float = 0.1,
        relaxation: float = 10.0,
        iterations: int = 10,
        match: float = 1.0,
        unseen: float = 1.0,
        mirror: float = 10.0,
        background: float = 10.0,
    ) -> None:
        super().__init__()
        if min(side, entropy, relaxation, iterations) <= 0:
            raise ValueError(
                "loss.transport needs side, entropy, relaxation and iterations above 0; "
                f"got {side}, {entropy}, {relaxation}, {iterations}"
            )
        self.side, self.plan = side, (bin_score, entropy, relaxation, iterations)
        self.match, self.unseen, self.mirror, self.background = match, unseen, mirror, background

    def forward(
        self, bank: Bank, batch: PairBatch, moment: Moment = START, reads: RowReads | None = None
    ) -> Float[Tensor, "b"]:
        used = torch.unique(torch.stack([batch["src"], batch["trg"]])).tolist()
        views = {view: unit_cells(bank, view, self.side).flatten(1).T for view in used}
        rows = []
        for row, (src, trg) in enumerate(zip(batch["src"].tolist(), batch["trg"].tolist(), strict=True)):
            if not batch["visible"][row].any():
                rows.append(views[src].sum() * 0)
                continue
            ends = self._end(bank, batch, "src", row), self._end(bank, batch, "trg", row)
            rows.append(checkpoint(self.row, views[src], views[trg], *ends, batch["partner"][row], use_reentrant=False))
        return torch.stack(rows)

    def row(
        self,
        src: Float[Tensor, "cells c"],
        trg: Float[Tensor, "cells c"],
        src_end: End,
        trg_end: End,
        partner: Int[Tensor, "n"],
    ) -> Float[Tensor, ""]:
        """One row's loss from unit descriptors of the cells of both views."""
        with full_precision(src):
            both = src_end.seen & trg_end.seen
            log_p = log_plan(src @ trg.T, mass(src_end, both, src), mass(trg_end, both, src), *self.plan)
        bins, n = len(src), len(src) + 1  # the bin's index; cells and a bin
        i, j = src_end.cell, trg_end.cell
        own = torch.arange(len(partner), device=partner.device)
        elsewhere = (j[partner] != j) | ~trg_end.seen  # a mirror part in the true part's own cell is not wrong
        other = src_end.seen & trg_end.seen[partner] & (partner != own) & elsewhere
        lost = torch.cat([log_p[i[src_end.seen & ~both], bins], log_p[bins, j[trg_end.seen & ~both]]])
        across = src_end.subject[:, None] ^ trg_end.subject  # subject to background, either way
        return (
            self.match * _mean(-log_p[i[both], j[both]])
            + self.unseen * _mean(-lost)
            + n * self.mirror * _mean(_not(log_p[i[other], j[partner][other]]))
            + n * self.background * _mean(_not(log_p[:-1, :-1][across]))
        )

    def _end(self, bank: Bank, batch: PairBatch, end: str, row: int) -> End:
        h, w = cell_grid(bank, self.side)
        xy_px, seen, view = batch[f"{end}_xy_px"][row], batch[f"{end}_visible"][row], int(batch[end][row])  # type: ignore[literal-required]
        x, y = (xy_px / bank.frame_px * xy_px.new_tensor([w, h])).long().unbind(-1)
        subject = masked_cells(batch, view, (h, w), "transport")
        return End(y.clamp(0, h - 1) * w + x.clamp(0, w - 1), seen, subject.flatten())


def mass(end: End, both: Bool[Tensor, "n"], like: Tensor) -> Float[Tensor, "cells_and_bin"]:
    """Marginal of one view: subject's cells share 0.9·(found + 1)/(keypoints + 1), others 0.1, the bin has the rest."""
    subject = end.subject.to(like.dtype)
    ground = 1 - subject
    share = SUBJECT * (both.sum() + 1).to(like.dtype) / (end.seen.sum() + 1)
    cells = share * subject / subject.sum().clamp(min=1) + (1 - SUBJECT) * ground / ground.sum().clamp(min=1)
    return torch.cat([cells, 1 - cells.sum()[None]]).clamp(min=LEAST / len(cells))


def _not(log_p: Tensor) -> Tensor:
    """``−log(1 − p)``."""
    return -torch.log1p(-log_p.exp().clamp(max=1 - LEAST))


def _mean(values: Tensor) -> Tensor:
    return values.sum() / max(1, values.numel())
