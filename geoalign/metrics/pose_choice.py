"""How often a pose was chosen rightly, where azimuths tell, and what the best choice would have scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric

from geoalign.geometry import Pose
from geoalign.keys import pose_key
from geoalign.metrics.functional import hits, point_error_px
from geoalign.types import Matches, PairBatch

SIDES = ("same_side", "opposite_sides")
"""Pairs whose source fits upright, and those whose source fits mirrored, by their azimuths."""


class Choices(NamedTuple):
    """Pairs by chosen pose; and of :data:`SIDES`, how many the azimuths decide and how many of these are right."""

    chosen: Mapping[str, int]
    decided: Mapping[str, int]
    right: Mapping[str, int]

    def named(self, stage: str, dataset: str) -> dict[str, float]:
        """Shares of the choices and of the right ones, and the pairs that these are of; what is empty is left out."""
        pairs, decided = sum(self.chosen.values()), sum(self.decided.values())
        shares = {f"chosen_{pose}": count / max(1, pairs) for pose, count in self.chosen.items()}
        if decided:
            shares["right_where_azimuth_decides"] = sum(self.right.values()) / decided
        for side, count in self.decided.items():
            shares |= {f"right_{side}": self.right[side] / count, f"pairs_{side}": float(count)} if count else {}
        return {pose_key(stage, dataset, name): value for name, value in shares.items()}


class PoseChoice(Metric):
    """Counts choices among ``poses``. A flip is right where it brings the azimuths nearer, upright where it does not.

    Only integers are summed, so batches and ranks cannot change a result. Pairs of unknown azimuth, and those as far
    apart mirrored as upright (seen from the front, from behind), decide nothing.
    """

    full_state_update = False
    chosen: Tensor
    judged: Tensor

    def __init__(self, poses: Sequence[Pose], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.poses = tuple(poses)
        self.add_state("chosen", torch.zeros(len(self.poses), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("judged", torch.zeros(len(SIDES), 2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, choice: Int[Tensor, "b"], azimuth: Int[Tensor, "b 2"]) -> None:
        """Add rows: the index of the chosen pose; azimuth ids of source and target, -1 where unknown."""
        src, trg = azimuth.unbind(-1)
        upright, flipped = _turn(src, trg), _turn((-src) % 8, trg)
        decided = (src >= 0) & (trg >= 0) & (upright != flipped)
        opposite = flipped < upright
        flips, straight = (torch.tensor(column, device=choice.device)[choice] for column in self._poses())
        right = straight & (opposite == flips)
        sides = [torch.stack([decided & side, decided & side & right]).sum(1) for side in (~opposite, opposite)]
        self.judged = self.judged + torch.stack(sides)
        self.chosen = self.chosen + choice.bincount(minlength=len(self.poses))

    def compute(self) -> Choices:
        """The counts of what was added."""
        decided, right = self.judged.T.tolist()
        names = map(str, self.poses)
        return Choices(
            dict(zip(names, self.chosen.tolist(), strict=True)),
            dict(zip(SIDES, decided, strict=True)),
            dict(zip(SIDES, right, strict=True)),
        )

    def _poses(self) -> tuple[list[bool], list[bool]]:
        return [pose.flip for pose in self.poses], [pose.degrees == 0 for pose in self.poses]


def oracle(by_pose: Matches, batch: PairBatch, alpha: float, strict: bool) -> Matches:
    """Of every row the matches of the pose with most points within ``alpha``; the earlier pose where they tie.

    ``by_pose`` holds the matches of all poses, ``(p b n ...)``. It reads the truth: what it scores is what a perfect
    choice would have, and no method's result.
    """
    best = torch.stack([_right(each, batch, alpha, strict) for each in by_pose.xy_px]).argmax(0)
    rows = torch.arange(len(best), device=best.device)
    return Matches(by_pose.xy_px[best, rows], by_pose.score[best, rows])


def _right(xy_px: Float[Tensor, "b n 2"], batch: PairBatch, alpha: float, strict: bool) -> Int[Tensor, "b"]:
    """Points of each row within ``alpha`` of the truth."""
    error = point_error_px(xy_px, batch["trg_xy_px"])
    return (hits(error, batch["size_px"], (alpha,), strict=strict)[0] & batch["visible"]).sum(-1)


def _turn(a: Tensor, b: Tensor) -> Tensor:
    """Steps of 45 degrees between two azimuths."""
    steps = (a - b).abs()
    return torch.minimum(steps, 8 - steps)
