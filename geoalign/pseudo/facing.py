"""Which photographs face one way: no label is read, only what is alike as it is and what is alike mirrored.

A photograph and its mirror image show opposite sides and are known to; whether two photographs face alike shows in
whether their subjects are nearer to each other as they are or with one mirrored. One pair errs often (on livestock's
training photographs with ``lite`` in 4 to 12 of 100), all pairs together seldom: the leading eigenvector of the signed
graph puts 99 to 100 of 100 right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float

from geoalign.pseudo.subjects import Subject

SWEEPS = 5
PARTNERS = 24
"""Others that each photograph is compared with, where there are more."""
CELLS = 128
"""Cells of the source, evenly chosen, that say how alike two photographs are."""


class Likeness(NamedTuple):
    """Of every pair of ``n`` photographs: the mean similarity of the source's cells to their nearest in the target."""

    upright: Float[np.ndarray, "n n"]  # nan where not compared
    mirrored: Float[np.ndarray, "n n"]  # with the target mirrored

    @property
    def best(self) -> Float[np.ndarray, "n n"]:
        """The better of both, both ways; -inf where not compared and on the diagonal."""
        best = np.fmax(self.upright, self.mirrored)
        best = np.fmax(best, best.T)
        np.fill_diagonal(best, np.nan)
        return np.where(np.isnan(best), -np.inf, best)


class Facing(NamedTuple):
    """Which photographs are to be mirrored so that all face one way, and how far their neighbours agree to it."""

    mirrored: Bool[np.ndarray, "n"]
    agreement: Float[np.ndarray, "n"]  # from -1 to 1


def likeness(subjects: Sequence[Subject], partners: int = PARTNERS, seed: int = 0) -> Likeness:
    """Compare every photograph with ``partners`` others, as it is and mirrored: half of them those of nearest mean."""
    n = len(subjects)
    upright, mirrored = np.full((n, n), np.nan), np.full((n, n), np.nan)
    rng = np.random.default_rng(seed)
    means = torch.stack([subject.upright.descriptors.mean(0) for subject in subjects])
    near = torch.nn.functional.cosine_similarity(means[:, None], means[None], dim=-1).numpy()
    for a, source in enumerate(subjects):
        cells = source.upright.descriptors
        cells = cells[:: max(1, len(cells) // CELLS)]
        others = rng.permutation(np.delete(np.arange(n), a))
        first = others[np.argsort(-near[a, others], kind="stable")]
        half = partners // 2
        for b in [*first[:half], *np.setdiff1d(others, first[:half], assume_unique=True)[: partners - half]]:
            for values, target in ((upright, subjects[b].upright), (mirrored, subjects[b].mirrored)):
                values[a, b] = float((cells @ target.descriptors.T).amax(1).mean())
    return Likeness(upright, mirrored)


def facing(like: Likeness) -> Facing:
    """The two-colouring that most pairs agree with: signs of the leading eigenvector of the signed graph."""
    odds = np.nan_to_num(like.upright - like.mirrored)
    np.fill_diagonal(odds, 0.0)
    scale = np.abs(odds[odds != 0]).mean() if odds.any() else 1.0
    signed = np.tanh(odds / scale)
    signed = signed + signed.T
    _, vectors = np.linalg.eigh(signed)
    sign = np.where(vectors[:, -1] >= 0, 1.0, -1.0)
    for _ in range(SWEEPS):  # where kinds are mixed the eigenvector says little of all but one: each follows its own
        for at in range(len(sign)):
            sign[at] = 1.0 if signed[at] @ sign >= 0 else -1.0
    sign *= sign[0]
    whole = np.abs(signed).sum(1)
    agreement = sign * (signed @ sign) / np.where(whole > 0, whole, 1.0)
    return Facing(sign < 0, agreement)
