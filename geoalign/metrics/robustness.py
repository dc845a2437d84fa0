"""How scores hold under pose variation, how well templates tell a pose (docs/protocol.md#metrics, #pose-alignment)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric

from geoalign.metrics.functional import AZIMUTH_BINS, azimuth_subset
from geoalign.metrics.pck import Score

POSES = ("left", "right", "front", "back")
"""Template poses, in the order of their ids; ``-1`` stands for an unknown pose."""


def sensitivity(values: Sequence[float]) -> float | None:
    """Spread of scores over the bins that occur, ``(max - min) / max``; None below two bins or at all zeros.

    >>> sensitivity([0.8, 0.6, 0.4])
    0.5
    """
    if len(values) < 2 or max(values) <= 0:
        return None
    return (max(values) - min(values)) / max(values)


def azimuth_sensitivity(scores: Mapping[Score, float]) -> dict[Score, float]:
    """Sensitivity to pose variation of ``all`` and of ``geometry_aware``, per category, threshold and average.

    ``scores`` are those of :class:`~geoalign.metrics.PCK` with the azimuth subsets. A category without
    known azimuths is absent.
    """
    spread = {}
    for first in dict.fromkeys(key._replace(subset="all") for key in scores):
        for subset in ("all", "geometry_aware"):
            names = [azimuth_subset(d, geometry_aware=subset != "all") for d in range(AZIMUTH_BINS)]
            bins = [scores[key] for key in (first._replace(subset=name) for name in names) if key in scores]
            value = sensitivity(bins)
            if value is not None:
                spread[first._replace(subset=subset)] = value
    return spread


def pose_hits(distance: Float[Tensor, "b 4"], pose: Int[Tensor, "b"]) -> tuple[Bool[Tensor, "b"], Bool[Tensor, "b"]]:
    """Whether the nearest template has the right pose: among its own axis's two, and among all four.

    Args:
        distance: least distance to the templates of each pose, in the order of :data:`POSES`.
        pose: true pose ids 0..3.
    """
    axis = pose.div(2, rounding_mode="floor") * 2
    both = distance.gather(1, torch.stack([axis, axis + 1], 1))
    return both.argmin(1) == pose - axis, distance.argmin(1) == pose


class PosePrediction(Metric):
    """Accuracy of a pose read off the nearest template: left/right, front/back, either, four-way.

    Left/right asks only images seen from the left or right and offers only these two templates (front/back
    likewise); *either* pools both questions; *four-way* asks every image among all four.
    """

    full_state_update = False
    higher_is_better = True
    counts: Tensor  # (3 4): images asked, right on their own axis, right of all four; by true pose

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("counts", torch.zeros(3, len(POSES), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, distance: Float[Tensor, "b 4"], pose: Int[Tensor, "b"]) -> None:
        """Add images; those of unknown pose (-1) do not count.

        Raises:
            ValueError: a distance is not finite, or a pose id lies outside -1..3.
        """
        if pose.numel() and not -1 <= int(pose.min()) <= int(pose.max()) < len(POSES):
            raise ValueError(f"expected pose ids in -1..{len(POSES) - 1} ({', '.join(POSES)}), got {pose.tolist()}")
        distance, pose = distance[pose >= 0], pose[pose >= 0]
        if not torch.isfinite(distance).all():
            raise ValueError("expected a finite distance to every pose; give at least one template of each")
        axis, four_way = pose_hits(distance, pose)
        asked = (pose, pose[axis], pose[four_way])
        self.counts = self.counts + torch.stack([torch.bincount(each, minlength=len(POSES)) for each in asked])

    def compute(self) -> dict[tuple[str, str], float]:
        """Accuracy by ``(metric, average)``; a question nobody was asked is absent."""
        total, axis, four_way = self.counts
        asked = {
            "left_right": (axis[:2], total[:2]),
            "front_back": (axis[2:], total[2:]),
            "either": (axis, total),
            "four_way": (four_way, total),
        }
        sums = {name: (int(hit.sum()), int(total.sum())) for name, (hit, total) in asked.items()}
        return {("pose_accuracy", name): hit / total for name, (hit, total) in sums.items() if total}
