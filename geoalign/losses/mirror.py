"""The mirror part as the one wrong answer: direct supervision of left against right."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geoalign.bank import Bank, Queries, Source, full_precision
from geoalign.losses.base import START, Moment, Term
from geoalign.losses.reads import RowReads
from geoalign.types import PairBatch


class MirrorLoss(Term):
    """``−log softmax`` of two similarities: a keypoint to its true point in the target, and to its mirror part there.

    That is ``softplus((s_mirror − s_true) / temperature)``. It asks only of keypoints whose mirror partner the target
    shows, too, and weighs one wrong answer as much as a softmax over the map weighs thousands; it is as good as done
    where the true part is several temperatures ahead, so that it does not pull two sides further apart than matching
    needs. Mean over such keypoints of a row; the idea is GECO's negative at the counterpart, without its transport plan
    (docs/protocol.md#losses-of-later-methods).

    Args:
        temperature: of the softmax, in units of similarity; null = the scale that the refiner learns.
        source: bilinear | floor: how descriptors are read, of keypoints and of both points in the target.

    Raises:
        ValueError: a temperature that is not above 0.
    """

    def __init__(self, temperature: float | None = 0.05, source: Source = "bilinear") -> None:
        super().__init__()
        if temperature is not None and temperature <= 0:
            raise ValueError(f"loss.mirror.temperature is above 0, or null (learned); got {temperature}")
        self.temperature, self.reading = temperature, source
        self.learned_scale = temperature is None

    def forward(
        self, bank: Bank, batch: PairBatch, moment: Moment = START, reads: RowReads | None = None
    ) -> Float[Tensor, "b"]:
        asked = mirrored(batch)
        queries = Queries.of(batch["src"], batch["trg"], batch["src_xy_px"], asked)
        row, slot = queries.row, queries.slot
        other = batch["partner"][row, slot]
        points = torch.cat([queries.xy_px, batch["trg_xy_px"][row, slot], batch["trg_xy_px"][row, other]])
        src, true, mirror = bank.at(torch.cat([queries.view, queries.trg, queries.trg]), points, self.reading).chunk(3)
        with full_precision(src):
            ahead = (src * (true - mirror)).sum(-1)
            each = F.softplus(-ahead * moment.inverse_temperature(self.temperature))
        return each.new_zeros(len(asked)).index_add(0, row, each) / asked.sum(-1).clamp(min=1)

    def counts(self, batch: PairBatch) -> Bool[Tensor, "b"]:
        """Rows with a keypoint that has a mirror part in the target."""
        return mirrored(batch).any(-1)


def mirrored(batch: PairBatch) -> Bool[Tensor, "b n"]:
    """Keypoints visible in both views whose mirror partner, another slot, is visible in the target."""
    partner: Int[Tensor, "b n"] = batch["partner"]
    own = torch.arange(partner.shape[1], device=partner.device)
    return batch["visible"] & batch["trg_visible"].gather(1, partner) & (partner != own)
