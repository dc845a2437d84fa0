"""Resampling over pairs: intervals of a score, and of the difference of two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from geoalign.metrics.functional import SUBSETS, hits
from geoalign.metrics.pck import Score
from geoalign.results.predictions import table_error_px

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 64
"""Resamples drawn at once; bounds memory."""


class PairCounts(NamedTuple):
    """Hits and keypoints of every pair; pairs are in the order of the table."""

    pair_id: tuple[str, ...]
    hit: np.ndarray  # (pairs)
    points: np.ndarray  # (pairs)


def pair_counts(table: pd.DataFrame, alpha: float, *, strict: bool = True, subset: str = "all") -> PairCounts:
    """Each pair's hits among its keypoints of a subset (``all``, ``geometry_aware``, ``mirror``)."""
    import torch

    if subset not in ("all", *SUBSETS[:2]):
        raise ValueError(f"expected the subset all, geometry_aware or mirror, got {subset!r}")
    code, pair_id = _codes(table)
    inside = np.ones(len(table), dtype=bool) if subset == "all" else table[subset].to_numpy()
    error, size = table_error_px(table)[:, None], torch.tensor(table["size_px"].to_numpy())
    hit = hits(error, size, (alpha,), strict=strict)[0, :, 0].numpy() & inside
    count = len(pair_id)
    return PairCounts(pair_id, np.bincount(code[hit], minlength=count), np.bincount(code[inside], minlength=count))


def averages(counts: PairCounts, weight: np.ndarray) -> dict[str, np.ndarray]:
    """Score per image and per keypoint under pair weights ``(r pairs)``; NaN where a resample holds no keypoint."""
    occurs = counts.points > 0
    share = np.divide(counts.hit, counts.points, out=np.zeros(len(occurs)), where=occurs)
    columns = np.stack([share, occurs, counts.hit, counts.points], 1).astype(float)
    shares, pairs, hit, points = (weight @ columns).T  # one product: reading the weights is what takes time
    with np.errstate(invalid="ignore"):
        return {"image": shares / pairs, "keypoint": hit / points}


def resamples(pairs: int, samples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each pair occurs in each of ``samples`` draws with replacement, in chunks ``(r pairs)``."""
    generator = np.random.default_rng(seed)
    for start in range(0, samples, CHUNK):
        rows = min(CHUNK, samples - start)
        drawn = generator.integers(pairs, size=(rows, pairs)) + pairs * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * pairs).reshape(rows, pairs).astype(float)


def bootstrap_intervals(
    table: pd.DataFrame,
    alphas: Sequence[float],
    *,
    strict: bool = True,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    subsets: Sequence[str] = ("all", "geometry_aware"),
) -> dict[Score, tuple[float, float]]:
    """Percentile intervals over pairs, per subset, threshold and average; an empty subset is absent."""
    if table.empty:
        return {}
    counted = {
        (subset, alpha): pair_counts(table, alpha, strict=strict, subset=subset)
        for subset in subsets
        for alpha in alphas
    }
    drawn: dict[Score, list[np.ndarray]] = {}
    for weight in resamples(table["pair_id"].nunique(), samples, seed):
        for (subset, alpha), counts in counted.items():
            for average, values in averages(counts, weight).items():
                drawn.setdefault(Score(subset, "all", alpha, average), []).append(values)
    joined = {score: np.concatenate(values) for score, values in drawn.items()}
    return {score: interval(values, level) for score, values in joined.items() if np.isfinite(values).any()}


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Central percentile interval of the finite values."""
    low, high = np.percentile(values[np.isfinite(values)], [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def _codes(table: pd.DataFrame) -> tuple[np.ndarray, tuple[str, ...]]:
    import pandas as pd

    code, names = pd.factorize(table["pair_id"])
    return code, tuple(names)
