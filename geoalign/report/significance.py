"""Is one run better than another? Paired tests over pairs, from two predictions files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from geoalign.keys import alpha_name
from geoalign.report.runs import Evaluated, check_one_protocol
from geoalign.report.table import Cell, Signed, Span, Table
from geoalign.results.intervals import CHUNK, PairCounts, averages, interval, pair_counts, resamples
from geoalign.results.predictions import ResultsError, predictions_path, read_predictions
from geoalign.results.summary import COMPARISONS, read_summary

if TYPE_CHECKING:
    import pandas as pd


class Difference(NamedTuple):
    """First less second, as shares: scores, difference, its 95 % interval and two-sided p."""

    first: float
    second: float
    value: float
    interval: tuple[float, float]
    p: float


class Side(NamedTuple):
    """One run's evaluation and its rows, by pair and slot."""

    label: str
    run: Evaluated
    table: pd.DataFrame


def paired_difference(
    first: PairCounts, second: PairCounts, average: str, *, samples: int = 2000, seed: int = 0
) -> Difference:
    """Bootstrap interval and sign-flip permutation p of the difference of two runs over the same pairs.

    The test swaps the two runs' answers to whole pairs at random; ``p`` counts the swaps that differ at least
    as much, the observed one included, and is therefore never zero (docs/protocol.md#intervals-and-tests).
    """
    pairs = len(first.points)

    one, other = (float(averages(counts, np.ones((1, pairs)))[average][0]) for counts in (first, second))
    drawn = [
        averages(first, weight)[average] - averages(second, weight)[average]
        for weight in resamples(pairs, samples, seed)
    ]
    per_pair = (first.hit - second.hit).astype(float)
    if average == "image":
        per_pair = np.divide(per_pair, first.points, out=np.zeros(pairs), where=first.points > 0)
    return Difference(one, other, one - other, interval(np.concatenate(drawn)), sign_flip_p(per_pair, samples, seed))


def sign_flip_p(per_pair: Float[np.ndarray, "p"], samples: int, seed: int) -> float:
    """Share of random sign patterns whose sum is at least as far from zero as the observed one.

    scipy's ``permutation_test`` of paired samples does the same by sorting random numbers: for 2,000 patterns of
    12,234 pairs 2.4 s instead of 0.08 s, and a comparison of two runs asks for a dozen.
    """
    from scipy.stats import monte_carlo_test

    generator = np.random.default_rng(seed)

    def signs(size: tuple[int, int]) -> np.ndarray:
        return generator.integers(2, size=size) * 2.0 - 1.0

    def distance(sign: Float[np.ndarray, "*r p"], axis: int) -> Any:
        return np.abs(sign @ per_pair)

    options = {"n_resamples": samples, "batch": CHUNK, "alternative": "greater", "vectorized": True}
    return float(monte_carlo_test(np.ones(len(per_pair)), signs, distance, **options).pvalue)


def compare(first: str, second: str, *, samples: int = 2000, seed: int = 0) -> list[Table]:
    """Tables of differences for every dataset both runs hold; a run is ``FOLDER`` or ``FOLDER:aligned``.

    Raises:
        ResultsError: nothing in common, other protocols, or files that hold other keypoints.
    """
    sides = [{one.dataset: one for one in _open(run)} for run in (first, second)]
    shared = [dataset for dataset in sides[0] if dataset in sides[1]]
    if not shared:
        raise ResultsError(f"{first} holds {sorted(sides[0])}, {second} holds {sorted(sides[1])}: nothing to compare")
    return [_table(d, _load(sides[0][d]), _load(sides[1][d]), samples, seed) for d in shared]


def check_same_keypoints(first: Side, second: Side) -> None:
    """Refuse two tables unless they hold the same keypoints with the same truths and sizes, in one order.

    Raises:
        ResultsError: naming what differs first.
    """
    counts = [len(side.table) for side in (first, second)]
    if counts[0] != counts[1]:
        raise ResultsError(
            f"{first.label} holds {counts[0]} keypoints, {second.label} {counts[1]}; evaluate both on the same pairs"
        )
    for name in ("pair_id", "slot", "true_x_px", "true_y_px", "size_px", "geometry_aware"):
        a, b = first.table[name].to_numpy(), second.table[name].to_numpy()
        wrong = ~np.isclose(a, b, rtol=0, atol=1e-3) if a.dtype.kind == "f" else a != b
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise ResultsError(f"{first.label} and {second.label} differ in {name}: {a[at]!r} and {b[at]!r}")


def _open(run: str) -> list[Evaluated]:
    """Evaluations of one method of a run."""
    folder, _, method = run.rpartition(":") if run.endswith((":plain", ":aligned")) else (run, "", "plain")
    summary = read_summary(folder)
    every = [Evaluated(summary["name"], Path(folder), evaluation) for evaluation in summary["evaluations"]]
    own = [one for one in every if one.method == method]
    if not own:
        has = sorted({one.method for one in every})
        raise ResultsError(f"{folder} holds no {method} evaluation, only {has}; name the method as FOLDER:{method}")
    return own


def _load(one: Evaluated) -> Side:
    table = read_predictions(predictions_path(one.folder, one.dataset, one.method)).table
    return Side(f"{one.label} ({one.method})", one, table.sort_values(["pair_id", "slot"], ignore_index=True))


def _table(dataset: str, first: Side, second: Side, samples: int, seed: int) -> Table:
    check_one_protocol(dataset, [first.run, second.run])
    check_same_keypoints(first, second)
    alphas = [alpha for alpha in first.run.evaluation["alphas"] if alpha in second.run.evaluation["alphas"]]
    subsets = ["all", *(["geometry_aware"] if first.table["geometry_aware"].any() else [])]
    rows = [row for subset in subsets for alpha in alphas for row in _rows(first, second, subset, alpha, samples, seed)]
    notes = [
        f"A: {first.label}; B: {second.label}; {first.table['pair_id'].nunique()} pairs",
        "interval: paired bootstrap over pairs, 95 %; p: two-sided sign-flip permutation over pairs; "
        f"{samples} samples",
    ]
    return Table(f"{dataset}: paired difference of PCK, %", ["score", "A", "B", "A − B", "95 %", "p"], rows, notes)


def _rows(first: Side, second: Side, subset: str, alpha: float, samples: int, seed: int) -> list[list[Cell]]:
    strict = COMPARISONS[first.run.evaluation["protocol"]["comparison"]]
    one, other = (pair_counts(side.table, alpha, strict=strict, subset=subset) for side in (first, second))
    rows: list[list[Cell]] = []
    for average in ("image", "keypoint"):
        change = paired_difference(one, other, average, samples=samples, seed=seed)
        label = f"@{alpha_name(alpha)} per {average}" + ("" if subset == "all" else ", geometry-aware")
        scores = (100 * change.first, 100 * change.second, Signed(100 * change.value))
        rows.append([label, *scores, Span(*(100 * end for end in change.interval)), f"{change.p:.2g}"])
    return rows
