"""How likely a match is right: a calibrated probability from evidence that needs no truth (docs/own-images.md).

Every column of the evidence grows with the chance that a match is right, so weights are never negative. It takes any
bank: the similarity maps there and back, and the shape of the points that are matched together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geoalign.bank import Bank, Queries
from geoalign.geometry import Pose, cell_to_px
from geoalign.matching.constellation import Constellations, shape
from geoalign.matching.pose import posed_keypoints
from geoalign.matching.transfer import Matcher, at_once
from geoalign.types import Prediction, Rows

ALONE = ("similarity", "margin", "mass", "cycle")
"""Evidence on one match: cosine at the peak; how much lower it is beyond ``REACH``; the share of the softmax within;
how near its own place the matched point finds back."""
TOGETHER = (*ALONE, "company", "shape", "handed")
"""With at least ``ENOUGH`` points together also: the cycle of all of them; how near the match lies to where the affine
map of the others takes it; whether that map keeps left and right."""
REACH = 3
"""Cells of the features each side of the peak that count as the peak."""
ENOUGH = 5
"""Points that make a constellation: fewer fit an affine map whatever they are."""


@dataclass(frozen=True)
class Confidence:
    """Logistic weights of evidence; defaults are fitted on the frozen ``lite`` features of real animals.

    The probability is that the target shows the point *and* the match lies within 0.10 of the subject's size.

    Args:
        alone: a weight for each of similarity, margin, mass, cycle, then the constant: points matched one by one, or
            fewer than 5 together.
        together: the same, with company, shape, handed before the constant: 5 points or more of one subject.
        visible: matches below this probability are called not visible.

    Raises:
        ValueError: A number of weights that does not fit, one that is negative or not finite, a probability outside
            0..1.
    """

    alone: Sequence[float] = (3.7133, 7.1132, 1.3071, 0.3413, -5.0032)
    together: Sequence[float] = (1.1243, 5.944, 1.4913, 0.3757, 0.79, 0.3576, 0.6042, -5.895)
    visible: float = 0.22

    def __post_init__(self) -> None:
        for name, columns in (("alone", ALONE), ("together", TOGETHER)):
            weights = getattr(self, name)
            finite = len(weights) == len(columns) + 1 and all(map(math.isfinite, weights))
            if not finite or min(weights[:-1]) < 0:
                raise ValueError(
                    f"confidence.{name} is a weight >= 0 for each of {', '.join(columns)} and a constant, got {weights}"
                )
        if not 0 <= self.visible <= 1:
            raise ValueError(f"confidence.visible is a probability from 0 to 1, got {self.visible}")

    def __call__(self, evidence: Float[Tensor, "*b f"], count: Int[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Probability per match, from its evidence and the number of points that were matched together.

        Evidence that ends with ``ALONE``'s columns is that of points matched one by one.
        """
        alone, together = evidence.new_tensor(self.alone), evidence.new_tensor(self.together)
        few = evidence[..., : len(ALONE)] @ alone[:-1] + alone[-1]
        if evidence.shape[-1] == len(ALONE):
            return torch.sigmoid(few)
        return torch.sigmoid(torch.where(count < ENOUGH, few, evidence @ together[:-1] + together[-1]))

    def of(
        self,
        bank: Bank,
        rows: Rows,
        prediction: Prediction,
        poses: Sequence[Pose],
        matcher: Matcher,
        alone: bool = False,
    ) -> Float[Tensor, "b n"]:
        """Probability of every wanted slot of every row, zero elsewhere; ``poses`` are those of the method.

        ``alone``: each point by itself, as where the points of a row are not all of one subject. A bank that recalls
        (:class:`~geoalign.bank.RecallingBank`) and has just been matched saves one of two similarity maps per point.
        """
        queries, columns, count = evidence_of(bank, rows, prediction, poses, matcher, alone)
        return queries.spread(self(columns, count).to(rows["src_xy_px"].dtype), rows["wanted"])


def evidence_of(
    bank: Bank, rows: Rows, prediction: Prediction, poses: Sequence[Pose], matcher: Matcher, alone: bool = False
) -> tuple[Queries, Float[Tensor, "k f"], Int[Tensor, "k"]]:
    """The wanted slots of all rows as they were read, and their :func:`evidence`; ``alone``: each by itself."""
    queries = asked(rows, prediction, poses, matcher)
    matches, at = prediction.matches, (queries.row, queries.slot)
    return queries, *evidence(bank, queries, matches.xy_px[at], matches.score[at], matcher, alone)


def asked(rows: Rows, prediction: Prediction, poses: Sequence[Pose], matcher: Matcher) -> Queries:
    """Where every wanted slot was read: in its row's chosen pose, or upright where that does not show it."""
    given = rows["src_xy_px"], rows["src_visible"], rows["partner"], prediction.pose, poses
    posed_xy, posed = posed_keypoints(*given, matcher.frame_px)
    queries = Queries.of(rows["src"], rows["trg"], rows["src_xy_px"], rows["wanted"])
    row, slot, pick = queries.row, queries.slot, posed[queries.row, queries.slot]
    view = torch.where(pick, rows["src_poses"][row, prediction.pose[row]], rows["src_poses"][row, 0])
    return queries._replace(view=view, xy_px=torch.where(pick.unsqueeze(1), posed_xy[row, slot], queries.xy_px))


@torch.no_grad()
def evidence(
    bank: Bank,
    queries: Queries,
    trg_xy_px: Float[Tensor, "k 2"],
    score: Float[Tensor, "k"],
    matcher: Matcher,
    alone: bool = False,
) -> tuple[Float[Tensor, "k f"], Int[Tensor, "k"]]:
    """Columns ``TOGETHER`` (``alone``: ``ALONE``) of every match, and the number of points matched together."""
    # the extent of few points says little of the subject's: it is taken as that of most
    xy_px, most = queries.xy_px.float(), score.new_full((len(score),), 0.4 * matcher.frame_px).float()
    margin, mass = _sharpness(bank, queries, matcher)
    away = (_back(bank, queries, trg_xy_px, matcher) - xy_px).norm(dim=-1)
    if alone:
        columns = torch.stack([score.float(), margin, mass, _nearness(away / most, 0.02)], dim=1)
        return columns, torch.ones_like(queries.row)
    groups = Constellations.of(queries.row, queries.view)
    count = groups.company()
    extent = torch.where(count < ENOUGH, most, groups.extent(xy_px).clamp(min=0.1 * matcher.frame_px))
    cycle = _nearness(away / extent, 0.02)
    residual, determinant = shape(groups, xy_px, trg_xy_px.float(), extent)
    together = groups.mean(cycle), _nearness(residual, 0.03), torch.tanh(4 * determinant)
    return torch.stack([score.float(), margin, mass, cycle, *together], dim=1), count


def _nearness(distance: Tensor, near: float) -> Tensor:
    """Grows as a relative distance shrinks, and stops growing within ``near``."""
    return -torch.log(distance + near)


def _sharpness(bank: Bank, queries: Queries, matcher: Matcher) -> tuple[Tensor, Tensor]:
    """Margin over the second peak, and the mass around the first."""
    parts = []
    for part in queries.split(at_once(bank)):
        similarity = bank.read(part.view, part.xy_px, part.trg, matcher.source).similarity
        parts.append(peak(similarity, REACH * bank.finer, matcher.temperature))
    margin, mass = (torch.cat(column) for column in zip(*parts, strict=True))
    return margin, mass


def peak(
    similarity: Float[Tensor, "k h w"], reach: int, temperature: float
) -> tuple[Float[Tensor, "k"], Float[Tensor, "k"]]:
    """How much higher the peak is than all beyond ``reach`` cells, and the softmax's mass within.

    Writes over the maps: fresh memory of their size would cost more than all of the arithmetic.
    """
    h, w = similarity.shape[-2:]
    flat = similarity.flatten(1)
    best, at = flat.max(1, keepdim=True)
    offset = torch.arange(-reach, reach + 1, device=flat.device)
    x, y = at % w + offset, at // w + offset
    inside = (((y >= 0) & (y < h)).unsqueeze(2) & ((x >= 0) & (x < w)).unsqueeze(1)).flatten(1)
    index = (y.clamp(0, h - 1).unsqueeze(2) * w + x.clamp(0, w - 1).unsqueeze(1)).flatten(1)
    within = (torch.exp((flat.gather(1, index) - best) / temperature) * inside).sum(1)
    flat.scatter_(1, index, -1.0)  # cells beyond the border fall on its own, which lie in the window
    second = flat.amax(1)
    beyond = flat.sub_(best).div_(temperature).exp_().sum(1)
    return best.squeeze(1) - second, within / (within + beyond)


def _back(bank: Bank, queries: Queries, trg_xy_px: Tensor, matcher: Matcher) -> Tensor:
    """Where in its own view each matched point of the target finds its counterpart, px of the frame."""
    order = torch.argsort(queries.view, stable=True)  # equal views stand together: one product each
    parts = [queries.xy_px.new_zeros(0, 2).float()]
    for some in order.split(at_once(bank)):
        similarity = bank.read(queries.trg[some], trg_xy_px[some], queries.view[some], matcher.source).similarity
        parts.append(matcher.read(similarity, bank.finer).float())
    back = torch.empty_like(queries.xy_px, dtype=torch.float32)
    back[order] = cell_to_px(torch.cat(parts), bank.stride)
    return back
