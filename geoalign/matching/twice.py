"""A second look: matching again between crops of both pictures, found by the first look alone."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geoalign.bank import Bank
from geoalign.geometry import Crop, crop_points, uncrop_points
from geoalign.matching.methods import Method
from geoalign.matching.transfer import Matcher, transfer
from geoalign.types import Look, Prediction, Rows

STEP = 1.15
"""Sides of crops are powers of it, and corners lie a tenth of the side apart: pairs that ask for nearly the same crop
of an image share one view. A crop is off by at most a twentieth of its side, which the margin holds."""


@dataclass(frozen=True)
class Twice(Method):
    """The source cropped to its own keypoints, the target to where the first look found them; then matched again.

    A small animal fills few cells of the whole frame, and all of a crop. No truth of the target is used: the first look
    answers every keypoint that the source shows. A point whose first answer lies outside the target's crop keeps it.

    Args:
        margin: around the keypoints of either image, as a share of their extent's longer side
        least: shortest side of a crop, as a share of the frame: closer, pictures hold no more detail
        agree: share of the target crop's side: answers of the two looks that are no farther apart are averaged, being
            two measures of one place, and where they are farther apart the first stays; null: the second counts alone
    """

    margin: float = 0.2
    least: float = 0.15
    agree: float | None = None
    name: ClassVar[str] = "twice"

    def __post_init__(self) -> None:
        if self.margin < 0 or not 0 < self.least <= 1:
            raise ValueError(f"look needs margin >= 0 and 0 < least <= 1, got {self.margin} and {self.least}")
        if self.agree is not None and self.agree <= 0:
            raise ValueError(f"look.agree is a share of a crop's side above 0, or null, got {self.agree}")

    def match(self, bank: Bank, rows: Rows, choice: Int[Tensor, "b"], matcher: Matcher) -> Prediction:
        look = rows["look"]
        if look is None:
            raise ValueError("a second look needs crops; run it after a first one")
        src_xy_px = crop_points(rows["src_xy_px"], look["src_crop"][:, None], bank.frame_px)
        second = transfer(bank, rows["src"], rows["trg"], src_xy_px, matcher, rows["wanted"])
        xy_px = uncrop_points(second.xy_px, look["trg_crop"][:, None], bank.frame_px)
        seen = looked_at(look)
        if self.agree is not None:
            apart_px = (xy_px - look["first_xy_px"]).norm(dim=-1)
            seen = seen & (apart_px <= self.agree * look["trg_crop"][:, None, 2])
            xy_px = (xy_px + look["first_xy_px"]) / 2
        xy_px = torch.where(seen.unsqueeze(-1), xy_px, look["first_xy_px"])
        score = torch.where(seen, second.score, look["first_score"])
        wanted = rows["wanted"]
        return Prediction(second._replace(xy_px=xy_px * wanted.unsqueeze(-1), score=score * wanted), choice)

    def crop(self, xy_px: Float[np.ndarray, "n 2"], frame_px: float) -> Crop:
        """The square around points of a frame; all of the frame where there is no point."""
        if not len(xy_px):
            return Crop(0.0, 0.0, float(frame_px))
        low, high = xy_px.min(0), xy_px.max(0)
        side = max(float((high - low).max()) * (1 + 2 * self.margin), self.least * frame_px)
        side = STEP ** round(math.log(side, STEP))
        x, y = (round(float(c) / side * 10) * side / 10 - side / 2 for c in (low + high) / 2)
        return Crop(round(x, 2), round(y, 2), round(side, 2))

    def protocol(self) -> dict[str, Any]:
        said = {name: value for name, value in asdict(self).items() if value is not None}
        return {"poses": ["upright"], "look": said}


def looked_at(look: Look) -> Bool[Tensor, "b n"]:
    """Slots whose first answer lies in the target's crop; the others keep it."""
    first, crop = look["first_xy_px"], look["trg_crop"][:, None]
    return ((first >= crop[..., :2]) & (first <= crop[..., :2] + crop[..., 2:])).all(-1)
