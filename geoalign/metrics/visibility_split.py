"""GECO's split by whether match and mirror counterpart are seen in the target (docs/protocol.md#later-metrics)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric

from geoalign.keys import alpha_name
from geoalign.metrics.functional import check_errors, hits, mirror_subset, point_error_px

GROUPS = ("00", "01", "10", "11", "1x")
"""First digit: the match is seen; second: its counterpart is; x: there is no counterpart."""

REPORTED = (
    ("match", "10"),
    ("match", "11"),
    ("match", "1x"),
    ("swap", "11"),
    ("both", "11"),
    ("swap", "01"),
)
"""Shares that are reported: at the match, at the counterpart only (left/right swap), at both."""


def visibility_groups(
    src_visible: Bool[Tensor, "b n"], trg_visible: Bool[Tensor, "b n"], partner: Int[Tensor, "b n"]
) -> Int[Tensor, "b n"]:
    """Index into :data:`GROUPS` of every keypoint seen in the source, -1 for what belongs to none."""
    paired = mirror_subset(src_visible, partner)
    counterpart = trg_visible.gather(1, partner)
    group = torch.where(paired, 2 * trg_visible.long() + counterpart.long(), -1)
    return torch.where(src_visible & trg_visible & ~paired, GROUPS.index("1x"), group)


class VisibilitySplit(Metric):
    """Share of keypoints at their match, swapped to the counterpart, or within reach of both, per group.

    The matches of the groups 10, 11 and 1x together are PCK per keypoint. Compares with ``<=`` as GECO does,
    with ``<`` if ``strict``.
    """

    full_state_update = False
    total: Tensor
    hits: Tensor

    def __init__(self, alphas: Sequence[float] = (0.1, 0.05, 0.01), strict: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not alphas or min(alphas) <= 0:
            raise ValueError(f"expected thresholds above 0, got alphas={list(alphas)}")
        self.alphas, self.strict = tuple(alphas), strict
        self.add_state("total", torch.zeros(len(GROUPS), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("hits", torch.zeros(3, len(alphas), len(GROUPS), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self,
        predicted_px: Float[Tensor, "b n 2"],
        trg_xy_px: Float[Tensor, "b n 2"],
        size_px: Float[Tensor, "b"],
        src_visible: Bool[Tensor, "b n"],
        trg_visible: Bool[Tensor, "b n"],
        partner: Int[Tensor, "b n"],
    ) -> None:
        """Add rows with predictions for every keypoint seen in the source."""
        error_px = point_error_px(predicted_px, trg_xy_px)
        check_errors(error_px, size_px, src_visible)
        mirrored_px = trg_xy_px.gather(1, partner[..., None].expand_as(trg_xy_px))
        at_match = hits(error_px, size_px, self.alphas, strict=self.strict) & trg_visible
        at_other = hits(point_error_px(predicted_px, mirrored_px), size_px, self.alphas, strict=self.strict)
        at_other &= trg_visible.gather(1, partner)
        group = visibility_groups(src_visible, trg_visible, partner)
        member = torch.nn.functional.one_hot(group + 1, len(GROUPS) + 1)[..., 1:]  # (b n groups)
        kinds = torch.stack([at_match, at_other & ~at_match, at_match & at_other]).long()
        self.total = self.total + member.sum((0, 1))
        self.hits = self.hits + (kinds[..., None] * member).sum((2, 3))

    def compute(self) -> dict[tuple[str, str], float]:
        """Shares and counts by ``(metric, average)``, such as ``("geco_swap_11@0.10", "keypoint")``."""
        total = {name: int(n) for name, n in zip(GROUPS, self.total, strict=True)}
        shares: dict[tuple[str, str], float] = {
            (f"geco_{name}", "count"): float(count) for name, count in total.items() if count
        }
        for kind, group in REPORTED:
            for row, alpha in enumerate(self.alphas if total[group] else ()):
                hit = int(self.hits[("match", "swap", "both").index(kind), row, GROUPS.index(group)])
                shares[f"geco_{kind}_{group}@{alpha_name(alpha)}", "keypoint"] = hit / total[group]
        return shares
