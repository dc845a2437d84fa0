"""A second look at one pair of pictures: their crops as a bank, matched again, with confidence."""

from __future__ import annotations

import torch
from torch import Tensor

from geoalign.bank import Bank
from geoalign.geometry import UPRIGHT, Crop, crop_points
from geoalign.matching import Confidence, Matcher, Twice
from geoalign.matching.twice import looked_at
from geoalign.types import Look, Matches, Prediction, Rows


def look_again(
    bank: Bank,
    extent_px: Tensor,
    crops: tuple[Crop, Crop],
    first: tuple[Rows, Prediction, Tensor],
    method: Twice,
    matcher: Matcher,
    confidence: Confidence,
) -> tuple[Matches, Tensor]:
    """Matches ``(1 n ...)`` in px of the whole frame, and their confidence.

    ``bank`` holds the source's crop and the target's, ``extent_px`` says where the pictures lie in them; ``first`` is
    the one row of the first look, its prediction and confidence, which stand where the crop does not show a point.
    """
    rows, given, sure = first
    at = torch.arange(2, device=sure.device)
    src_crop, trg_crop = (torch.tensor([crop], device=sure.device) for crop in crops)
    look = Look(src_crop=src_crop, trg_crop=trg_crop, first_xy_px=given.matches.xy_px, first_score=given.matches.score)
    closer = rows.copy()
    closer["src"], closer["trg"], closer["src_poses"] = at[:1], at[1:], at[None, :1]
    closer["extent_px"], closer["look"] = extent_px, look
    found = method(bank, closer, matcher)
    # in the crops' own frame, where the evidence lies
    within = Matches(crop_points(found.matches.xy_px, trg_crop[:, None], bank.frame_px), found.matches.score)
    closer["src_xy_px"] = crop_points(rows["src_xy_px"], src_crop[:, None], bank.frame_px)
    again = confidence.of(bank, closer, Prediction(within, found.pose), (UPRIGHT,), matcher)
    return found.matches, torch.where(looked_at(look), again, sure)
