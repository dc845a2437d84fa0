"""Self-distillation: dense matches that a teacher finds in a pair teach what lies between its keypoints."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from geoalign.bank import Bank, Queries, Source
from geoalign.data.batch.collate import content_rng
from geoalign.geometry import cell_to_px, px_to_cell
from geoalign.losses.base import START, Moment, Term
from geoalign.losses.miner import (
    NOTHING,
    Flow,
    Pair,
    agrees_with_keypoints,
    comes_back,
    mutual_neighbours,
    piecewise_affine,
)
from geoalign.losses.reads import RowReads
from geoalign.losses.schedule import Cosine, Scheduled
from geoalign.losses.view_cells import cell_grid, masked_cells, unit_cells
from geoalign.matching import Matcher
from geoalign.types import KINDS, PairBatch

POINTS = 1024
"""Mined points compared with all cells at once: 15 MB of similarities at 60×60 cells, 240 MB at 240×240."""
Agree = Literal["keypoints", "cycle"]


class Mined(NamedTuple):
    """Matches of all rows: the row of each, and its points in both views, frame px."""

    row: Int[Tensor, "k"]
    src_xy_px: Float[Tensor, "k 2"]
    trg_xy_px: Float[Tensor, "k 2"]


class DistilLoss(Term):
    """MARCO's dense loss: soft-argmax of the student against what the average of its weights over steps has mined.

    Per plain row the teacher's cells inside both subjects are matched (mutual neighbours, Lowe's ratio), spread to a
    flow by one affine map per triangle, and kept where keypoints agree, or the way back holds; some are drawn. The loss
    is the mean distance of soft-argmax over the whole map, in units of half the frame. Subjects are the dataset's
    masks, or boxes (docs/protocol.md#losses-of-later-methods).

    Args:
        decay: of the teacher's average at every step; a number, or a schedule such as geoalign.losses.Cosine.
        agree: keypoints: parts of a flow that keypoints confirm | cycle: cells whose way back holds; no keypoints used.
        temperature: of the student's softmax.
        matches: at most so many of a row, drawn by its pair and the step.
        least: a row with fewer has none.
        side: cells a side that are matched; finer maps are averaged to it.
        ratio: of mutual neighbours: best to second distance, at most.
        clusters: of a flow, at most, for agree=keypoints.
        reach: cells of ``side`` within which a keypoint confirms, or the way back holds.
        source: bilinear | floor: how the student's descriptor is read.

    Raises:
        ValueError: A name that is not listed, a decay outside 0 to 1, a ratio outside 0 to 1, or another value not
            above 0.
    """

    mask_side = 120
    plain_only = True

    def __init__(
        self,
        decay: Scheduled = 0.999,
        agree: Agree = "keypoints",
        temperature: float = 0.03,
        matches: int = 300,
        least: int = 100,
        side: int = 60,
        ratio: float = 0.95,
        clusters: int = 7,
        reach: float = 1.5,
        source: Source = "bilinear",
    ) -> None:
        super().__init__()
        if agree not in ("keypoints", "cycle") or source not in ("bilinear", "floor"):
            raise ValueError(
                f"loss.distil.agree is keypoints or cycle, its source bilinear or floor; got {agree!r}, {source!r}"
            )
        decays = (decay.start, decay.end) if isinstance(decay, Cosine) else (decay,)
        if not all(0 < one < 1 for one in decays) or not 0 < ratio <= 1:
            raise ValueError(f"loss.distil needs 0 < decay < 1 and 0 < ratio <= 1, got {decay} and {ratio}")
        if min(temperature, matches, least, side, clusters, reach) <= 0 or least > matches:
            raise ValueError(
                "loss.distil needs temperature, matches, least, side, clusters and reach above 0 and least <= matches; "
                f"got {temperature}, {matches}, {least}, {side}, {clusters}, {reach}"
            )
        self.teacher_decay, self.agree, self.reading = decay, agree, source
        self.matches, self.least, self.side = matches, least, side
        self.ratio, self.clusters, self.reach = ratio, clusters, reach
        self.matcher = Matcher(readout="soft", temperature=temperature)

    def forward(
        self, bank: Bank, batch: PairBatch, moment: Moment = START, reads: RowReads | None = None
    ) -> Float[Tensor, "b"]:
        if moment.teacher is None:
            raise ValueError("loss.distil needs a teacher's bank; the module makes it in training")
        mined = self.mine(moment.teacher, batch, moment.step)
        order = torch.argsort(batch["trg"][mined.row], stable=True)
        row, src_xy_px, truth = mined.row[order], mined.src_xy_px[order], mined.trg_xy_px[order]
        slot = torch.zeros_like(row)
        queries = Queries(row, slot, batch["src"][row], src_xy_px, batch["trg"][row])
        found = [checkpoint(self._predict, bank, part, use_reentrant=False) for part in queries.split(POINTS)]
        distance = (torch.cat(found) - truth).norm(dim=-1) * (2 / bank.frame_px)
        rows = len(batch["src"])
        count = torch.bincount(row, minlength=rows).clamp(min=1)
        return distance.new_zeros(rows).index_add(0, row, distance) / count

    def counts(self, batch: PairBatch) -> Bool[Tensor, "b"]:
        """Plain rows; where keypoints must agree, those that have any."""
        plain = batch["kind"] == KINDS.index("plain")
        return plain if self.agree == "cycle" else plain & super().counts(batch)

    def check(self, steps: int | None) -> None:
        if isinstance(self.teacher_decay, Cosine):
            self.teacher_decay.check("loss.distil.decay", steps)

    @torch.no_grad()
    def mine(self, teacher: Bank, batch: PairBatch, step: int) -> Mined:
        """The teacher's matches of every row that counts, drawn by pair and step alone."""
        views: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        found: list[tuple[int, Flow]] = []
        for row in torch.nonzero(self.counts(batch)).flatten().tolist():
            ends = int(batch["src"][row]), int(batch["trg"][row])
            for view in ends:
                if view not in views:
                    views[view] = self._subject(teacher, batch, view)
            (src, src_xy), (trg, trg_xy) = (views[view] for view in ends)
            flow = self.flow(Pair(src, trg, src_xy, trg_xy), *self._keypoints(teacher, batch, row))
            if len(flow.src_xy) >= self.least:
                rng = content_rng(step, batch["pair_id"][row], "mined")
                drawn = np.sort(rng.permutation(len(flow.src_xy))[: self.matches])
                found.append((row, Flow(flow.src_xy[drawn], flow.trg_xy[drawn])))
        like, stride = batch["src_xy_px"], self._stride(teacher)
        src_xy_px, trg_xy_px = (
            cell_to_px(like.new_tensor(np.concatenate([np.zeros((0, 2)), *(flow[i] for _, flow in found)])), stride)
            for i in (0, 1)
        )
        rows = [row for row, flow in found for _ in flow.src_xy]
        return Mined(torch.tensor(rows, dtype=torch.long, device=like.device), src_xy_px, trg_xy_px)

    def flow(self, pair: Pair, src_xy: Float[np.ndarray, "k 2"], trg_xy: Float[np.ndarray, "k 2"]) -> Flow:
        """What is trusted of the flow between two views, given the cells of keypoints (none: not used)."""
        src, trg = mutual_neighbours(pair, self.ratio)
        anchors = Flow(pair.src_xy[src], pair.trg_xy[trg])
        if len(src_xy):  # keypoints are true: no neighbour within a cell of one has a say
            free = np.abs(anchors.src_xy[:, None] - src_xy[None]).max(-1).min(1) > 1
            anchors = Flow(*(np.concatenate([k, a[free]]) for k, a in zip((src_xy, trg_xy), anchors, strict=True)))
        flow = piecewise_affine(*anchors, at=pair.src_xy)
        if not len(flow.src_xy):
            return NOTHING
        if self.agree == "keypoints":
            kept = agrees_with_keypoints(flow, src_xy, trg_xy, self.clusters, self.reach)
        else:
            kept = comes_back(pair, flow, self.reach)
        return Flow(flow.src_xy[kept], flow.trg_xy[kept])

    def _keypoints(self, teacher: Bank, batch: PairBatch, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Cells of a row's visible keypoints in both views; none where they must not be used."""
        seen = batch["visible"][row] & (self.agree == "keypoints")
        stride = self._stride(teacher)
        src, trg = (px_to_cell(batch[end][row][seen], stride) for end in ("src_xy_px", "trg_xy_px"))
        return src.double().cpu().numpy(), trg.double().cpu().numpy()

    def _subject(self, teacher: Bank, batch: PairBatch, view: int) -> tuple[np.ndarray, np.ndarray]:
        """Unit descriptors of the subject's cells of a view, and their places."""
        subject = masked_cells(batch, view, cell_grid(teacher, self.side), "distil")
        y, x = torch.nonzero(subject, as_tuple=True)
        unit = unit_cells(teacher, view, self.side)[:, y, x]
        return unit.T.cpu().numpy(), torch.stack([x, y], -1).double().cpu().numpy()

    def _stride(self, teacher: Bank) -> float:
        """Frame px per cell that is matched."""
        return teacher.frame_px / cell_grid(teacher, self.side)[1]

    def _predict(self, bank: Bank, part: Queries) -> Float[Tensor, "k 2"]:
        similarity = bank.read(part.view, part.xy_px, part.trg, self.reading).similarity
        return cell_to_px(self.matcher.read(similarity), bank.stride)
