"""Dense matches between two views from descriptors: mutual neighbours, a flow between them, what of it can be trusted.

NumPy on the processor, and no gradients: a map of similarities of one pair's subjects at a time. Cells are ``(x, y)``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from geoalign.geometry import Real


class Pair(NamedTuple):
    """Unit descriptors of the subject's cells in both views, and the places of these cells."""

    src: Float[np.ndarray, "n c"]
    trg: Float[np.ndarray, "m c"]
    src_xy: Float[np.ndarray, "n 2"]
    trg_xy: Float[np.ndarray, "m 2"]


class Flow(NamedTuple):
    """Source cells and where they go in the target."""

    src_xy: Float[np.ndarray, "f 2"]
    trg_xy: Float[np.ndarray, "f 2"]


NOTHING = Flow(np.zeros((0, 2)), np.zeros((0, 2)))


def mutual_neighbours(pair: Pair, ratio: Real) -> tuple[Int[np.ndarray, "k"], Int[np.ndarray, "k"]]:
    """Cells of source and target that are each other's nearest, and clearly so.

    Clearly: ``1 − best`` is at most ``ratio`` times ``1 − second`` (Lowe), the second best outside the eight cells
    around the best, which nearly all agree with it.
    """
    if not len(pair.src) or not len(pair.trg):
        return np.zeros(0, int), np.zeros(0, int)
    similarity = pair.src @ pair.trg.T
    best, back = similarity.argmax(1), similarity.argmax(0)
    src = np.flatnonzero(back[best] == np.arange(len(best)))
    trg = best[src]
    near = np.abs(pair.trg_xy[None] - pair.trg_xy[trg][:, None]).max(-1) <= 1
    second = np.where(near, -1.0, similarity[src]).max(1)
    clear = 1 - similarity[src, trg] <= ratio * (1 - second)
    return src[clear], trg[clear]


def piecewise_affine(src_xy: Float[np.ndarray, "k 2"], trg_xy: Float[np.ndarray, "k 2"], at: np.ndarray) -> Flow:
    """The flow of anchors at the points ``at`` inside their hull: one affine map per triangle of Delaunay's."""
    from scipy.interpolate import LinearNDInterpolator
    from scipy.spatial import Delaunay, QhullError

    try:
        mesh = Delaunay(src_xy)
    except (QhullError, ValueError):  # fewer than three anchors, or all in a line
        return NOTHING
    there = LinearNDInterpolator(mesh, trg_xy)(at)
    inside = np.isfinite(there).all(-1)
    return Flow(at[inside], there[inside])


def agrees_with_keypoints(
    flow: Flow, src_xy: Float[np.ndarray, "k 2"], trg_xy: Float[np.ndarray, "k 2"], clusters: int, reach: Real
) -> Bool[np.ndarray, "f"]:
    """Parts of a flow that keypoints confirm.

    Displacements, no longer than their 95th percentile, are put into ``clusters`` by k-means from places far apart. A
    cluster stays where at least half of the keypoints within ``reach`` cells of where it comes from are, in the target,
    within ``reach`` of where it goes; one without keypoints goes.
    """
    from scipy.cluster.vq import kmeans2
    from scipy.spatial import cKDTree

    moves = flow.trg_xy - flow.src_xy
    length = np.linalg.norm(moves, axis=1, keepdims=True)
    moves = moves * np.minimum(1, np.percentile(length, 95) / np.maximum(length, 1e-9))
    centres = _far_apart(moves, clusters)
    label = kmeans2(moves, centres, iter=20, minit="matrix")[1] if len(centres) > 1 else np.zeros(len(moves), int)
    kept = np.zeros(len(moves), dtype=bool)
    for one in np.unique(label):
        of = label == one
        here = cKDTree(flow.src_xy[of]).query(src_xy)[0] <= reach
        there = cKDTree(flow.trg_xy[of]).query(trg_xy)[0] <= reach
        kept[of] = here.any() and there[here].mean() >= 0.5
    return kept


def comes_back(pair: Pair, flow: Flow, reach: Real) -> Bool[np.ndarray, "f"]:
    """Where the way back holds: the nearest source descriptor of the cell a flow leads to is within ``reach`` cells."""
    from scipy.spatial import cKDTree

    landed = cKDTree(pair.trg_xy).query(flow.trg_xy)[1]
    back = (pair.trg[landed] @ pair.src.T).argmax(1)
    return np.linalg.norm(pair.src_xy[back] - flow.src_xy, axis=1) <= reach


def _far_apart(points: np.ndarray, most: int) -> np.ndarray:
    """The point nearest the mean, then always the one furthest from those taken: nothing is drawn."""
    taken = [int(np.linalg.norm(points - points.mean(0), axis=1).argmin())]
    away = np.linalg.norm(points - points[taken[0]], axis=1)
    while len(taken) < most and away.max() > 1e-6:
        taken.append(int(away.argmax()))
        away = np.minimum(away, np.linalg.norm(points - points[taken[-1]], axis=1))
    return points[taken]
