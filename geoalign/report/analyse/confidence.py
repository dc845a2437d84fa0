"""Fit a confidence to evidence of a validation set, and see on the test set whether its probabilities hold."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import yaml
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_calibration_error

from geoalign.callbacks.evidence import Judged
from geoalign.files import replacing
from geoalign.matching import Confidence
from geoalign.metrics.kap import average_precision
from geoalign.parts import TARGET
from geoalign.report.analyse.output import save
from geoalign.report.table import Cell, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KEPT = 0.9
"""Share of the right matches of the validation set that are still called visible."""
PENALTY = 1e-3
"""On squared weights of evidence in standard deviations."""
BINS = 10
COLUMNS = ("auc", "ap", "auc_shown", "ece", "right_kept", "wrong_dropped", "hidden_dropped")
NOTES = (
    "auc: right against wrong, of points that the target shows; ap: right against wrong and hidden; auc_shown: shown "
    "against hidden; ece: expected calibration error, ten bins, hidden points count as not right",
    f"dropped: below the threshold that keeps {KEPT:.0%} of the right matches of the validation set",
)


class Scores(NamedTuple):
    """A score for every match of both stages."""

    val: Float[Tensor, "v"]
    test: Float[Tensor, "t"]


def confidence(val: Judged, test: Judged, out: Path) -> tuple[Table, list[Path]]:
    """Weights (yaml), every match of the test set (csv) and a reliability diagram into ``out``; a table of scores."""
    fitted = fit_confidence(val)
    plain = fit(val.together[:, :1], val.right)
    alone = (torch.zeros_like(one.company) for one in (val, test))  # a match by itself has no company
    scores = {
        "similarity": Scores(val.together[:, 0], test.together[:, 0]),
        "similarity, calibrated": Scores(*(torch.sigmoid(e.together[:, 0] * plain[0] + plain[1]) for e in (val, test))),
        "confidence": Scores(*(fitted(one.together, one.company) for one in (val, test))),
        "confidence, points alone": Scores(
            *(fitted(_wide(one), count) for one, count in zip((val, test), alone, strict=True))
        ),
    }
    measured = {name: measure(score, val, test) for name, score in scores.items()}
    rows = _rows({name: score.test for name, score in scores.items()}, test)
    plots = [
        [partial(reliability, probability=scores[name].test, right=test.right, title=name, ece=measured[name]["ece"])
         for name in ("similarity", "similarity, calibrated", "confidence", "confidence, points alone")]
    ]  # fmt: skip
    title = f"{len(test.right)} matches, {test.shown.sum()} of points that the target shows, {test.right.sum()} right"
    paths = save(out / "confidence", ("right", "shown", "points", *scores), rows, plots, [title], (3.6, 3.9))
    with replacing(out / "confidence.yaml") as partial_file:
        weights = {"alone": list(fitted.alone), "together": list(fitted.together), "visible": fitted.visible}
        partial_file.write_text(yaml.safe_dump({TARGET: "geoalign.matching.Confidence", **weights}), encoding="utf-8")
    lines: list[list[Cell]] = [[name, *values.values()] for name, values in measured.items()]
    table = Table(f"Confidence of matches: {title}", ["score", *COLUMNS], lines, NOTES)
    return table, [out / "confidence.yaml", *paths]


def fit_confidence(judged: Judged) -> Confidence:
    """Weights of evidence, and the probability below which matches are not visible."""
    alone, together = fit(judged.alone, judged.right), fit(judged.together, judged.right)
    fitted = Confidence(alone.tolist(), together.tolist())
    right = fitted(judged.together, judged.company)[judged.right]
    visible = round(float(right.quantile(1 - KEPT)), 2)
    rounded = ([round(w, 4) for w in weights] for weights in (fitted.alone, fitted.together))
    return Confidence(next(rounded), next(rounded), visible)


def fit(columns: Float[Tensor, "k f"], right: Bool[Tensor, "k"]) -> Float[Tensor, "f1"]:
    """Logistic weights, none below 0, then the constant.

    Raises:
        ValueError: all matches are right, or none is.
    """
    from scipy.optimize import minimize

    if right.all() or not right.any():
        raise ValueError(f"a confidence needs right and wrong matches, got {int(right.sum())} right of {len(right)}")
    spread = columns.double().std(0).clamp(min=1e-6).numpy()
    z = np.c_[columns.double().numpy() / spread, np.ones(len(columns))]
    target, penalty = right.double().numpy(), np.r_[np.full(len(spread), PENALTY), 0.0]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logit = z @ weights
        value = np.logaddexp(0, logit).mean() - (target * logit).mean() + (penalty * weights**2).sum()
        return value, z.T @ (1 / (1 + np.exp(-logit)) - target) / len(z) + 2 * penalty * weights

    bounds = [(0, None)] * len(spread) + [(None, None)]
    best = minimize(loss, np.zeros(len(bounds)), jac=True, bounds=bounds, method="L-BFGS-B").x
    return torch.from_numpy(best / np.r_[spread, 1.0])


def measure(score: Scores, val: Judged, test: Judged) -> dict[str, float]:
    """Every one of ``COLUMNS`` on the test set, in percent."""
    limit = score.val[val.right].quantile(1 - KEPT)
    dropped, wrong = score.test < limit, test.shown & ~test.right
    values = {
        "auc": binary_auroc(score.test[test.shown], test.right[test.shown].long()),
        "ap": average_precision(score.test, test.right),
        "auc_shown": binary_auroc(score.test, test.shown.long()) if not test.shown.all() else torch.nan,
        "ece": binary_calibration_error(score.test.clamp(0, 1), test.right.long(), n_bins=BINS, norm="l1"),
        "right_kept": 1 - dropped[test.right].float().mean(),
        "wrong_dropped": dropped[wrong].float().mean(),
        "hidden_dropped": dropped[~test.shown].float().mean(),
    }
    return {name: 100 * float(value) for name, value in values.items() if value is not None}


def reliability(axes: Axes, probability: Float[Tensor, "k"], right: Bool[Tensor, "k"], title: str, ece: float) -> None:
    """Share of right matches over their probability, and how many there are of each."""
    bins = (probability * BINS).long().clamp(0, BINS - 1)
    count = torch.bincount(bins, minlength=BINS)
    share, mean = (
        (torch.bincount(bins, values.double(), BINS) / count).tolist() for values in (right, probability.clamp(0, 1))
    )
    axes.bar((np.arange(BINS) + 0.5) / BINS, (count / count.max() * 0.25).tolist(), 0.9 / BINS, color="#d0d7de")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle="--")
    axes.plot(mean, share, color="#4878a8", marker="o", markersize=4)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=f"{title} (ECE {ece:.1f} %)", ylabel="share that is right")
    axes.grid(alpha=0.3)


def _wide(judged: Judged) -> Tensor:
    """Evidence on matches alone, with nothing in the columns of company."""
    return torch.nn.functional.pad(judged.alone, (0, judged.together.shape[1] - judged.alone.shape[1]))


def _rows(scores: Mapping[str, Tensor], judged: Judged) -> list[list[Cell]]:
    columns = judged.right.int(), judged.shown.int(), judged.company, *scores.values()
    return [list(row) for row in zip(*(column.tolist() for column in columns), strict=True)]
