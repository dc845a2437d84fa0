"""PCK that punishes landing nearer to another keypoint (Jamais Vu's PCK-dagger; docs/protocol.md#later-metrics)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geoalign.metrics.functional import point_error_px

MISS_PX = torch.finfo(torch.float64).max
"""An error no threshold accepts, yet finite."""


def own_is_nearest(
    predicted_px: Float[Tensor, "b n 2"], trg_xy_px: Float[Tensor, "b n 2"], trg_visible: Bool[Tensor, "b n"]
) -> Bool[Tensor, "b n"]:
    """Whether no other keypoint visible in the target is nearer to the prediction than its own truth."""
    every = point_error_px(predicted_px[:, :, None], trg_xy_px[:, None])  # (b n n): prediction, then truth
    own = every.diagonal(dim1=1, dim2=2)
    nearest = every.masked_fill(~trg_visible[:, None], torch.inf).amin(-1)
    return own <= nearest


def dagger_error_px(
    predicted_px: Float[Tensor, "b n 2"], trg_xy_px: Float[Tensor, "b n 2"], trg_visible: Bool[Tensor, "b n"]
) -> Float[Tensor, "b n"]:
    """Errors for :meth:`PCK.update`, beyond every threshold where another keypoint is nearer.

    >>> truth = torch.tensor([[[0.0, 0.0], [10.0, 0.0]]])
    >>> answer = torch.tensor([[[6.0, 0.0], [9.0, 0.0]]])
    >>> (dagger_error_px(answer, truth, torch.ones(1, 2, dtype=torch.bool)) < 8).tolist()
    [[False, True]]
    """
    own = own_is_nearest(predicted_px, trg_xy_px, trg_visible)
    return point_error_px(predicted_px, trg_xy_px).masked_fill(~own, MISS_PX)
