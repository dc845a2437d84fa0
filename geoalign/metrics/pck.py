"""PCK: keypoints within alpha of the truth, relative to the size of the target (docs/protocol.md#metrics)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric

from geoalign.keys import metric_key, pck_key
from geoalign.metrics.functional import SUBSETS, check_errors, hits


class Score(NamedTuple):
    """What one number is about; ``all`` is every keypoint, or every category."""

    subset: str
    category: str
    alpha: float
    average: str  # image, keypoint; for category "all" also macro_image, macro_keypoint


class Count(NamedTuple):
    """Pairs with at least one keypoint of a subset, and those keypoints."""

    pairs: int
    keypoints: int


class PckResult(NamedTuple):
    """Scores in [0, 1] and what they were measured on; an empty subset or category is absent."""

    scores: dict[Score, float]
    counts: dict[tuple[str, str], Count]  # by (subset, category)

    def named(self, stage: str, dataset: str, *, method: str = "plain", by_category: bool = False) -> dict[str, float]:
        """Scores and counts under their logged names; categories only on request (they are many)."""
        named = {
            pck_key(stage, dataset, s.alpha, s.average, subset=s.subset, method=method, category=s.category): value
            for s, value in self.scores.items()
            if by_category or s.category == "all"
        }
        for (subset, category), count in self.counts.items():
            if by_category or category == "all":
                for name, value in count._asdict().items():
                    key = metric_key(stage, dataset, "count", name, subset=subset, method=method, category=category)
                    named[key] = float(value)
        return named


class PCK(Metric):
    """PCK per image, per keypoint, per category, macro over categories, and per named subset.

    Only integers are summed: pairs and hits, by how many keypoints a pair has. Batch size, order and the
    number of ranks therefore cannot change a result. ``strict`` compares with ``<`` (as the paper's code),
    else with ``<=``. A pair with more than ``max_points`` visible keypoints is refused.
    """

    full_state_update = False
    higher_is_better = True
    pairs: Tensor
    hits: Tensor

    def __init__(
        self,
        alphas: Sequence[float] = (0.1, 0.05, 0.01),
        categories: Sequence[str] = ("all",),
        strict: bool = True,
        subsets: Sequence[str] = SUBSETS,
        max_points: int = 64,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check_names("alphas", alphas)
        _check_names("categories", categories)
        _check_names("subsets (beside the implicit 'all')", ("all", *subsets))
        if min(alphas) <= 0:
            raise ValueError(f"expected thresholds above 0, got alphas={list(alphas)}")
        self.alphas, self.categories, self.strict = tuple(alphas), tuple(categories), strict
        self.subsets, self.max_points = tuple(subsets), max_points
        shape = (1 + len(self.subsets), len(self.categories), max_points + 1)
        self.add_state("pairs", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("hits", torch.zeros((len(self.alphas), *shape), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self,
        error_px: Float[Tensor, "b n"],
        size_px: Float[Tensor, "b"],
        visible: Bool[Tensor, "b n"],
        subsets: Mapping[str, Bool[Tensor, "b n"]],
        category: Int[Tensor, "b"],
    ) -> None:
        """Add rows; only ``visible`` keypoints count. ``subsets`` may leave out some of the declared names."""
        self._check(visible, subsets, category)
        check_errors(error_px, size_px, visible)
        none = torch.zeros_like(visible)
        masks = torch.stack([visible, *(subsets.get(name, none) & visible for name in self.subsets)])  # (s b n)
        points = masks.sum(-1)
        hit = (hits(error_px, size_px, self.alphas, strict=self.strict)[:, None] & masks).sum(-1)  # (a s b)
        subset = torch.arange(len(masks), device=masks.device)[:, None]
        where = (subset.expand_as(points), category.expand_as(points), points)
        self.pairs = self.pairs.index_put(where, torch.ones_like(points), accumulate=True)
        threshold = torch.arange(len(hit), device=hit.device)[:, None, None]
        where_hit = (threshold.expand_as(hit), *(index.expand_as(hit) for index in where))
        self.hits = self.hits.index_put(where_hit, hit, accumulate=True)

    def compute(self) -> PckResult:
        """All scores and counts of what was added."""
        return result_from_sums(self.pairs.cpu(), self.hits.cpu(), self.alphas, self.categories, self.subsets)

    def _check(self, visible: Tensor, subsets: Mapping[str, Tensor], category: Tensor) -> None:
        unknown = sorted(set(subsets) - set(self.subsets))
        if unknown:
            raise ValueError(
                f"PCK knows the subsets {list(self.subsets)}, got {unknown}; name them in PCK(subsets=...)"
            )
        if category.numel() and not 0 <= int(category.min()) <= int(category.max()) < len(self.categories):
            got = sorted(set(category.tolist()))
            raise ValueError(
                f"expected category ids in 0..{len(self.categories) - 1}, got {got}; check PCK(categories)"
            )
        if visible.numel() and int(visible.sum(-1).max()) > self.max_points:
            most = int(visible.sum(-1).max())
            raise ValueError(f"a pair has {most} visible keypoints, PCK holds {self.max_points}; raise max_points")


def result_from_sums(
    pairs: Int[Tensor, "s c m"],
    hit: Int[Tensor, "a s c m"],
    alphas: Sequence[float],
    categories: Sequence[str],
    subsets: Sequence[str],
) -> PckResult:
    """Scores from pairs and hits counted by a pair's number of keypoints ``m`` (bin 0 is ignored)."""
    result = PckResult({}, {})
    for s, subset in enumerate(("all", *subsets)):
        _add(result, subset, "all", pairs[s].sum(0), hit[:, s].sum(1), alphas)
        present = []
        for c, category in enumerate(categories):
            if _add(result, subset, category, pairs[s, c], hit[:, s, c], alphas):
                present.append(category)
        for alpha in alphas if present else ():
            for average in ("image", "keypoint"):
                values = [result.scores[Score(subset, category, alpha, average)] for category in present]
                result.scores[Score(subset, "all", alpha, f"macro_{average}")] = sum(values) / len(values)
    return result


def _add(result: PckResult, subset: str, category: str, pairs: Tensor, hit: Tensor, alphas: Sequence[float]) -> bool:
    """Add one subset of one category; false where it is empty."""
    points = torch.arange(1, len(pairs), dtype=torch.float64)
    count = Count(int(pairs[1:].sum()), int((pairs[1:] * points.long()).sum()))
    if not count.pairs:
        return False
    result.counts[subset, category] = count
    for alpha, row in zip(alphas, hit[:, 1:], strict=True):
        result.scores[Score(subset, category, alpha, "image")] = float((row / points).sum() / count.pairs)
        result.scores[Score(subset, category, alpha, "keypoint")] = int(row.sum()) / count.keypoints
    return True


def _check_names(what: str, names: Sequence[Any]) -> None:
    if not names or len(set(names)) != len(names):
        raise ValueError(f"expected {what} without repeats and at least one, got {list(names)}")
