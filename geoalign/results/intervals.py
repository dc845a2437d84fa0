"""Resampling: intervals of a score, and of the difference of two (docs/protocol.md#intervals-and-tests)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from geoalign.metrics.functional import SUBSETS, hits
from geoalign.metrics.pck import Score
from geoalign.results.predictions import table_error_px

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 64
"""Resamples drawn at once; bounds memory."""

LEVEL = 0.95
"""Share of the resamples that an interval holds."""


class PairCounts(NamedTuple):
    """Hits and keypoints of every pair; pairs are in the order of the table."""

    hit: Int[np.ndarray, "p"]
    points: Int[np.ndarray, "p"]


def pair_counts(table: pd.DataFrame, alpha: float, *, strict: bool = True, subset: str = "all") -> PairCounts:
    """Each pair's hits, errors within ``alpha`` of the size, among its keypoints of a subset.

    Raises:
        ValueError: a subset other than ``all``, ``geometry_aware`` and ``mirror``.
    """
    import torch

    if subset not in ("all", *SUBSETS[:2]):
        raise ValueError(f"expected the subset all, geometry_aware or mirror, got {subset!r}")
    code, pairs = table["pair_id"].factorize()
    inside: Bool[np.ndarray, "k"] = np.ones(len(table), bool) if subset == "all" else table[subset].to_numpy()
    error, size = table_error_px(table)[:, None], torch.tensor(table["size_px"].to_numpy())
    hit = hits(error, size, (alpha,), strict=strict)[0, :, 0].numpy() & inside
    return PairCounts(*(np.bincount(code[which], minlength=len(pairs)) for which in (hit, inside)))


def averages(counts: PairCounts, weight: Float[np.ndarray, "r p"]) -> dict[str, Float[np.ndarray, "r"]]:
    """Score per image and per keypoint under the weights of pairs; NaN where a resample holds no keypoint."""
    occurs = counts.points > 0
    share = np.divide(counts.hit, counts.points, out=np.zeros(len(occurs)), where=occurs)
    columns = np.stack([share, occurs, counts.hit, counts.points], 1).astype(float)
    shares, pairs, hit, points = (weight @ columns).T  # one product: reading the weights is what takes time
    with np.errstate(invalid="ignore"):
        return {"image": shares / pairs, "keypoint": hit / points}


def resamples(units: int, samples: int, seed: int) -> Iterator[Float[np.ndarray, "r u"]]:
    """How often each of ``units`` (pairs or images) occurs in draws with replacement, ``samples`` in chunks.

    All scores share a draw: twelve intervals of 12,234 pairs take 0.13 s. ``scipy.stats.bootstrap`` gathers every
    score's pairs anew for the same numbers, 1.2 s, refuses a single pair and warns of every empty resample.
    """
    generator = np.random.default_rng(seed)
    for start in range(0, samples, CHUNK):
        rows = min(CHUNK, samples - start)
        drawn = generator.integers(units, size=(rows, units)) + units * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units).astype(float)


def bootstrap_intervals(
    table: pd.DataFrame,
    alphas: Sequence[float],
    *,
    strict: bool = True,
    samples: int = 1000,
    seed: int = 0,
    subsets: Sequence[str] = ("all", "geometry_aware"),
    images: Mapping[str, tuple[str, str]] | None = None,
) -> dict[Score, tuple[float, float]]:
    """Percentile intervals of shares per subset, threshold and average; an empty subset is absent.

    Pairs are resampled. With ``images``, the two image ids of every pair, images are: a pair then counts with the
    product of how often its two were drawn, since pairs that share an image are no independent samples.
    """
    if table.empty:
        return {}
    places = [(subset, alpha) for subset in subsets for alpha in alphas]
    counts = {place: pair_counts(table, place[1], strict=strict, subset=place[0]) for place in places}
    units = pairs = list(table["pair_id"].unique())
    if images is not None:
        names, ends = np.unique([images[pair] for pair in pairs], return_inverse=True)
        units, (src, trg) = list(names), ends.reshape(-1, 2).T
    drawn: dict[Score, list[np.ndarray]] = {}
    for often in resamples(len(units), samples, seed):
        weight = often if images is None else often[:, src] * often[:, trg]
        for (subset, alpha), each in counts.items():
            for average, values in averages(each, weight).items():
                drawn.setdefault(Score(subset, "all", alpha, average), []).append(values)
    joined = {score: np.concatenate(values) for score, values in drawn.items()}
    return {score: interval(values) for score, values in joined.items() if np.isfinite(values).any()}


def interval(values: Float[np.ndarray, "s"], level: float = LEVEL) -> tuple[float, float]:
    """Central percentile interval of the finite values."""
    low, high = np.percentile(values[np.isfinite(values)], [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)
