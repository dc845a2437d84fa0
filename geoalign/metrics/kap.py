"""Keypoint average precision (KAP of Jamais Vu; docs/protocol.md#later-metrics): is a high similarity also right?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from geoalign.geometry import FRAME_PX, cell_to_px
from geoalign.keys import alpha_name
from geoalign.metrics.functional import hits, point_error_px


class KapSamples(NamedTuple):
    """Scores of the samples of one batch and whether each is a right place (positive)."""

    score: Float[Tensor, "m a"]
    positive: Bool[Tensor, "m"]


def min_max(similarity: Float[Tensor, "b n h w"], visible: Bool[Tensor, "b n"]) -> Float[Tensor, "b n h w"]:
    """Similarities scaled to [0, 1] over all maps of a pair's visible keypoints; constant pairs become 0."""
    hidden = ~visible[..., None, None]
    low = similarity.masked_fill(hidden, torch.inf).amin((1, 2, 3), keepdim=True)
    high = similarity.masked_fill(hidden, -torch.inf).amax((1, 2, 3), keepdim=True)
    spread = (high - low).clamp_min(torch.finfo(similarity.dtype).tiny)
    return ((similarity - low) / spread).masked_fill(hidden, 0.0)


def disc(
    xy_px: Float[Tensor, "k 2"], limit_px: Float[Tensor, "k"], grid: tuple[int, int], frame_px: float, *, strict: bool
) -> Bool[Tensor, "k h w"]:
    """Cells whose centre lies within ``limit_px`` of a point; the nearest cell always does."""
    h, w = grid
    x, y = cell_to_px(torch.arange(w).to(xy_px), frame_px / w), cell_to_px(torch.arange(h).to(xy_px), frame_px / h)
    centres = torch.stack([x.expand(h, w), y[:, None].expand(h, w)], -1).reshape(1, h * w, 2)
    distance = point_error_px(centres, xy_px[:, None])
    inside = hits(distance, limit_px, (1.0,), strict=strict)[0]
    nearest = torch.zeros_like(inside).scatter_(1, distance.argmin(1, keepdim=True), True)
    return (inside | nearest).reshape(-1, h, w)  # a small disc may fall between the centres


def kap_samples(
    similarity: Float[Tensor, "b n h w"],
    trg_xy_px: Float[Tensor, "b n 2"],
    size_px: Float[Tensor, "b"],
    src_visible: Bool[Tensor, "b n"],
    trg_visible: Bool[Tensor, "b n"],
    alphas: Sequence[float],
    *,
    released: bool = False,
    strict: bool = True,
    frame_px: float = FRAME_PX,
) -> KapSamples:
    """Samples of all keypoints seen in the source, also of those not seen in the target.

    A keypoint seen in the target gives a positive (its map's maximum within ``alpha * size_px`` of the truth)
    and a negative (the maximum elsewhere); one not seen gives a negative (the maximum anywhere).
    ``released`` keeps raw maxima instead of scaling every pair to [0, 1].
    """
    scaled = similarity if released else min_max(similarity, src_visible)
    both = src_visible & trg_visible
    maps, size = scaled[both], size_px[:, None].expand_as(both)[both]
    positive, negative = [], []
    for alpha in alphas:
        inside = disc(trg_xy_px[both], size.double() * alpha, (maps.shape[1], maps.shape[2]), frame_px, strict=strict)
        positive.append(maps.masked_fill(~inside, -torch.inf).amax((1, 2)))
        negative.append(maps.masked_fill(inside, -torch.inf).amax((1, 2)))  # -inf where nothing is left: ranks last
    absent = scaled[src_visible & ~trg_visible].amax((1, 2))[:, None].expand(-1, len(alphas))
    score = torch.cat([torch.stack(positive, 1), torch.stack(negative, 1), absent])
    return KapSamples(score, torch.arange(len(score), device=score.device) < len(maps))


def average_precision(score: Float[Tensor, "m"], positive: Bool[Tensor, "m"]) -> float | None:
    """Area under precision over recall, ties taken together; None without a positive.

    >>> average_precision(torch.tensor([0.9, 0.8, 0.7]), torch.tensor([True, False, True]))
    0.8333333333333333
    """
    if not positive.any():
        return None
    order = score.argsort(descending=True)
    ranked, right = score[order], positive[order].cumsum(0).double()
    last = torch.cat([ranked[1:] != ranked[:-1], torch.ones(1, dtype=torch.bool, device=score.device)])
    recalled, shown = right[last], (torch.arange(len(score), device=score.device) + 1)[last]
    gained = torch.diff(recalled, prepend=recalled.new_zeros(1))
    return float((gained * recalled / shown).sum() / recalled[-1])


class KAP(Metric):
    """KAP at each threshold, pooled over keypoints and as the mean over categories.

    Average precision needs every sample: scores are gathered, not summed; ties are taken together, so order
    and the number of ranks cannot change it.
    """

    full_state_update = False
    higher_is_better = True
    samples: list[Tensor]  # each (m 2+a): category, positive, score per threshold

    def __init__(
        self,
        alphas: Sequence[float] = (0.1,),
        released: bool = False,
        strict: bool = True,
        frame_px: float = FRAME_PX,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not alphas or min(alphas) <= 0:
            raise ValueError(f"expected thresholds above 0, got alphas={list(alphas)}")
        self.alphas, self.released, self.strict, self.frame_px = tuple(alphas), released, strict, frame_px
        self.add_state("samples", [], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Forget everything; an empty entry stays, or a rank without rows would miss the gathering."""
        super().reset()
        self.samples = [torch.zeros(0, 2 + len(self.alphas), dtype=torch.float64, device=self.device)]

    def update(
        self,
        similarity: Float[Tensor, "b n h w"],
        trg_xy_px: Float[Tensor, "b n 2"],
        size_px: Float[Tensor, "b"],
        src_visible: Bool[Tensor, "b n"],
        trg_visible: Bool[Tensor, "b n"],
        category: Int[Tensor, "b"],
    ) -> None:
        """Add rows, one similarity map over the target's cells per source keypoint."""
        if not torch.isfinite(similarity[src_visible]).all():
            raise ValueError("expected finite similarities at every keypoint seen in the source, got NaN or infinity")
        for row in range(len(category)):  # one pair at a time: maps are large, and a sample keeps its category
            only = slice(row, row + 1)
            parts = (similarity[only], trg_xy_px[only], size_px[only], src_visible[only], trg_visible[only])
            samples = kap_samples(
                *parts, self.alphas, released=self.released, strict=self.strict, frame_px=self.frame_px
            )
            about = torch.stack([category[only].expand(len(samples.score)), samples.positive], 1)
            self.samples.append(torch.cat([about.double(), samples.score.double()], 1))

    def compute(self) -> dict[tuple[str, str], float]:
        """KAP by ``(metric, average)``; absent where no keypoint is seen in both images."""
        samples = dim_zero_cat(self.samples)
        category, positive, score = samples[:, 0], samples[:, 1] > 0, samples[:, 2:]
        averages: dict[tuple[str, str], float] = {}
        for column, alpha in enumerate(self.alphas):
            name, pooled = f"kap@{alpha_name(alpha)}", average_precision(score[:, column], positive)
            each = [average_precision(score[category == c, column], positive[category == c]) for c in category.unique()]
            occurring = [value for value in each if value is not None]
            if pooled is not None:
                averages[name, "keypoint"] = pooled
                averages[name, "macro_keypoint"] = sum(occurring) / len(occurring)
        return averages
