"""Chains of photographs, and the cells that survive every link of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geoalign.pseudo.links import Link

Order = Literal["azimuth", "likeness", "random"]
NEAR = 12
"""A chain goes on to one of so many photographs that are most like its last."""


class Tracks(NamedTuple):
    """Points of a chain: for each of ``k`` the cell in every one of its ``n`` photographs, and a weight."""

    cells: Int[Tensor, "k n"]
    weight: Float[Tensor, "k"]


def survivors(chain: Sequence[int], link: Callable[[int, int], Link], closed_px: Callable[[Tensor], Tensor]) -> Tracks:
    """Cells of the chain's first photograph that every link keeps, and that the last links back to their start.

    ``closed_px`` says how far from the first photograph's cells ``(k)`` each the given cells ``(k)`` of it lie, as a
    share of the subject; more than a tenth does not close. A chain of two closes by its way back alone.
    """
    first = link(chain[0], chain[1])
    start, cells, weight = torch.arange(len(first.trg)), [torch.arange(len(first.trg))], torch.ones(len(first.trg))
    keep = torch.ones_like(start, dtype=torch.bool)
    for a, b in pairwise(chain):
        one, at = link(a, b), cells[-1]
        keep, weight = keep & one.keep[at], torch.minimum(weight, one.weight[at])
        cells.append(one.trg[at])
    if len(chain) > 2:
        home = link(chain[-1], chain[0])
        keep = keep & home.keep[cells[-1]] & (closed_px(torch.stack([start, home.trg[cells[-1]]])) <= 0.1)
    return Tracks(torch.stack(cells, 1)[keep], weight[keep])


def chains(
    order: Order,
    size: int,
    count: int,
    like: Float[np.ndarray, "n n"],
    azimuth: Int[np.ndarray, "n"],
    seed: int = 0,
) -> Iterator[tuple[int, ...]]:
    """``count`` chains of ``size`` of ``n`` photographs, no photograph twice in one; fewer where none can be made.

    ``azimuth``: each next photograph is one bin of 45 degrees further on, all one way round; ``likeness``: one of those
    most like the last, whichever way it faces; ``random``: any.
    """
    n, rng = len(azimuth), np.random.default_rng([seed, size])
    if n < size:
        return
    for number in range(count):
        chain = [number % n if order != "azimuth" else int(rng.integers(n))]
        step = int(rng.choice((-1, 1)))
        while len(chain) < size and len(able := _next(order, chain, like, azimuth, step)):
            chain.append(int(rng.choice(able)))
        if len(chain) == size:
            yield tuple(chain)


def _next(order: Order, chain: Sequence[int], like: np.ndarray, azimuth: np.ndarray, step: int) -> np.ndarray:
    others = np.setdiff1d(np.arange(len(azimuth)), chain)
    if order == "azimuth":
        return others[azimuth[others] == (azimuth[chain[-1]] + step) % 8]
    if order == "random":
        return others
    return others[np.argsort(-like[chain[-1], others], kind="stable")[:NEAR]]


def spread(xy_px: Float[Tensor, "k 2"], most: int, weight: Float[Tensor, "k"]) -> Bool[Tensor, "k"]:
    """At most so many points, farthest from each other first, from the one of most weight on."""
    if len(xy_px) <= most:
        return torch.ones(len(xy_px), dtype=torch.bool)
    chosen = torch.zeros(len(xy_px), dtype=torch.bool)
    at, distance = int(weight.argmax()), torch.full((len(xy_px),), torch.inf)
    for _ in range(most):
        chosen[at] = True
        distance = torch.minimum(distance, (xy_px - xy_px[at]).norm(dim=1))
        at = int(distance.argmax())
    return chosen
