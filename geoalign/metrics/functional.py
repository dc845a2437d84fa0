"""Pure functions that every metric shares: errors, hits, and which keypoints a subset holds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

AZIMUTH_BINS = 5
"""Azimuth differences 0..4, in steps of 45 degrees."""


def azimuth_subset(difference: int, *, geometry_aware: bool = False) -> str:
    """Name of an azimuth bin, of all keypoints or of the geometry-aware ones.

    >>> azimuth_subset(3), azimuth_subset(3, geometry_aware=True)
    ('azimuth_3', 'geometry_aware_azimuth_3')
    """
    return f"{'geometry_aware_' if geometry_aware else ''}azimuth_{difference}"


SUBSETS: tuple[str, ...] = (
    "geometry_aware",
    "mirror",
    *(azimuth_subset(d) for d in range(AZIMUTH_BINS)),
    *(azimuth_subset(d, geometry_aware=True) for d in range(AZIMUTH_BINS)),
)
"""Named subsets of a pair's visible keypoints, beside the implicit ``all``."""


def point_error_px(predicted_px: Float[Tensor, "*#any 2"], true_px: Float[Tensor, "*#any 2"]) -> Float[Tensor, "..."]:
    """Euclidean distance in float64, so that scores read back from files decide every threshold alike.

    >>> point_error_px(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2)).tolist()
    [5.0]
    """
    dx, dy = (predicted_px.double() - true_px.double()).unbind(-1)
    return (dx * dx + dy * dy).sqrt()


def hits(
    error_px: Float[Tensor, "b n"], size_px: Float[Tensor, "b"], alphas: Sequence[float], *, strict: bool = True
) -> Bool[Tensor, "a b n"]:
    """Keypoints within ``alpha * size_px`` of the truth, per threshold.

    >>> hits(torch.tensor([[10.0]]), torch.tensor([100.0]), [0.1], strict=False).tolist()
    [[[True]]]
    """
    limit = torch.stack([size_px.double() * alpha for alpha in alphas])[..., None]
    return error_px.double() < limit if strict else error_px.double() <= limit


def check_errors(error_px: Float[Tensor, "b n"], size_px: Float[Tensor, "b"], visible: Bool[Tensor, "b n"]) -> None:
    """Refuse what would silently count as a miss.

    Raises:
        ValueError: a visible keypoint's error is not a number, or a pair's size is not positive.
    """
    seen = visible.any(-1)
    if not torch.isfinite(error_px[visible]).all():
        raise ValueError("expected a finite error at every visible keypoint, got NaN or infinity; check the prediction")
    if not (size_px[seen] > 0).all():
        bad = size_px[seen].min().item()
        raise ValueError(f"expected a positive size_px for every pair, got {bad}; check the box of the target")


def subset_masks(
    visible: Bool[Tensor, "b n"],
    geometry_aware: Bool[Tensor, "b n"],
    azimuth_difference: Int[Tensor, "b"],
    partner: Int[Tensor, "b n"] | None = None,
) -> dict[str, Tensor]:
    """Every named subset of :data:`SUBSETS` as a mask ``(b n)``; ``mirror`` only where partners are given."""
    masks = {"geometry_aware": geometry_aware & visible}
    if partner is not None:
        masks["mirror"] = mirror_subset(visible, partner)
    for difference in range(AZIMUTH_BINS):
        inside = (azimuth_difference == difference)[:, None]
        masks[azimuth_subset(difference)] = visible & inside
        masks[azimuth_subset(difference, geometry_aware=True)] = visible & geometry_aware & inside
    return masks


def mirror_subset(visible: Bool[Tensor, "b n"], partner: Int[Tensor, "b n"]) -> Bool[Tensor, "b n"]:
    """Visible keypoints that have a left-right counterpart (``partner`` is another slot)."""
    own = torch.arange(partner.shape[-1], device=partner.device)
    return visible & (partner != own)
