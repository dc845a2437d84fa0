"""What kind of error a prediction is: right, left for right, nearly right, elsewhere."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

VERDICTS = ("correct", "swapped", "near", "elsewhere")
"""Correct: within alpha·size of the truth. Swapped: within alpha·size of another instance of the same part.
Near: within twice alpha·size of the truth. Elsewhere: the rest."""


def verdict(
    predicted_px: Float[Tensor, "b n 2"],
    true_px: Float[Tensor, "b n 2"],
    trg_visible: Bool[Tensor, "b n"],
    related: Bool[Tensor, "b n n"],
    size_px: Float[Tensor, "b"],
    alpha: float = 0.1,
) -> Int[Tensor, "b n"]:
    """Index into :data:`VERDICTS` per keypoint; ``related[b, i, j]``: j is another instance of i's part."""
    distance = torch.cdist(predicted_px, true_px)
    limit = alpha * size_px.view(-1, 1)
    own = distance.diagonal(dim1=-2, dim2=-1)
    others = related & trg_visible.unsqueeze(1)
    swapped = distance.masked_fill(~others, torch.inf).amin(-1) < limit
    code = torch.full(own.shape, VERDICTS.index("elsewhere"), device=own.device)
    code = torch.where(own < 2 * limit, VERDICTS.index("near"), code)
    code = torch.where(swapped, VERDICTS.index("swapped"), code)
    return torch.where(own < limit, VERDICTS.index("correct"), code)
