"""Whether a refiner got better, from photographs that it was not trained on and no label at all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from geoalign.apps.photographs import Photograph
from geoalign.draw.points import draw_matches
from geoalign.geometry import FLIP, UPRIGHT, flip_points, unletterbox_points
from geoalign.pseudo.chains import spread
from geoalign.refiner.base import Refiner

HOME = 0.1
"""A cell has come home if it ends within this share of its subject's extent."""
MOST_ROUNDS = 60
SHOWN = 12
"""Matches in the picture."""


class Verdict(NamedTuple):
    """Shares of cells that come home over three photographs, frozen and refined; the mean gain and its error."""

    frozen: float
    refined: float
    gain: float
    error: float
    rounds: int

    @property
    def better(self) -> bool:
        """Whether the gain is larger than its standard error."""
        return self.rounds > 0 and self.gain > self.error

    def __str__(self) -> str:
        if not self.rounds:
            return "fewer than three photographs were held out: nothing was judged"
        said = "better" if self.better else "not better"
        return (
            f"{said}: of the cells of photographs held out, {100 * self.frozen:.1f} % came home over two others with "
            f"frozen features, {100 * self.refined:.1f} % with the refiner "
            f"({100 * self.gain:+.1f} ± {100 * self.error:.1f}, {self.rounds} rounds of three)"
        )


def judge(photographs: Sequence[Photograph], mirrored: Sequence[bool], frozen: Refiner, refined: Refiner) -> Verdict:
    """Compare on rounds A to B to C to A of one category; ``mirrored`` makes all face one way."""
    rounds = list(_rounds(photographs))
    if not rounds:
        return Verdict(0.0, 0.0, 0.0, 0.0, 0)
    shares = []
    for refiner in (frozen, refined):
        cells = [described(one, turned, refiner) for one, turned in zip(photographs, mirrored, strict=True)]
        shares.append([home([cells[at] for at in way]) for way in rounds])
    before, after = np.array(shares)
    error = float((after - before).std(ddof=1) / math.sqrt(len(rounds))) if len(rounds) > 1 else math.inf
    return Verdict(before.mean(), after.mean(), float((after - before).mean()), error, len(rounds))


def _rounds(photographs: Sequence[Photograph]) -> Iterator[tuple[int, int, int]]:
    """Evenly chosen of all rounds of three of one category."""
    kinds = [photograph.record.category for photograph in photographs]
    every = [way for way in permutations(range(len(kinds)), 3) if len({kinds[at] for at in way}) == 1]
    step = max(1, len(every) // MOST_ROUNDS)
    yield from every[::step][:MOST_ROUNDS]


@torch.no_grad()
def described(photograph: Photograph, mirrored: bool, refiner: Refiner) -> tuple[Tensor, Tensor]:
    """Descriptors ``(k c)`` and places ``(k 2)`` of the subject's cells, in the pose that it is shown in."""
    look = photograph.subject.look(mirrored)
    device = next(refiner.parameters(), torch.zeros(0)).device
    bank = refiner.bank(tuple(part.to(device) for part in photograph.maps[FLIP if mirrored else UPRIGHT]))
    view = torch.zeros(len(look.xy_px), dtype=torch.long, device=device)
    return bank.at(view, look.xy_px.to(device)).cpu(), look.xy_px


def home(way: Sequence[tuple[Tensor, Tensor]]) -> float:
    """The share of the first's cells that come back near their start over all others."""
    start = at = torch.arange(len(way[0][1]))
    for (here, _), (there, _) in zip(way, [*way[1:], way[0]], strict=True):
        at = (here[at] @ there.T).argmax(1)
    xy = way[0][1]
    extent = (xy.amax(0) - xy.amin(0)).amax().clamp(min=1.0)
    return float(((xy[at] - xy[start]).norm(dim=1) / extent <= HOME).float().mean())


def before_after(
    src: Photograph, trg: Photograph, mirrored: tuple[bool, bool], frozen: Refiner, refined: Refiner
) -> Image.Image:
    """The same points of one photograph in another, frozen above and refined below; matched facing alike."""
    turned = mirrored[0] != mirrored[1]
    pages = []
    xy = src.subject.upright.xy_px
    chosen = spread(xy, SHOWN, torch.ones(len(xy)))
    for refiner in (frozen, refined):
        here, there = described(src, False, refiner), described(trg, turned, refiner)
        found = there[1][(here[0][chosen] @ there[0].T).argmax(1)]
        found = flip_points(found) if turned else found
        pages.append(draw_matches(src.small, trg.small, _shown(xy[chosen], src), _shown(found, trg)))
    page = Image.new("RGB", (pages[0].width, sum(one.height for one in pages) + 12), "white")
    page.paste(pages[0], (0, 0))
    page.paste(pages[1], (0, pages[0].height + 12))
    return page


def _shown(xy_px: Float[Tensor, "k 2"], photograph: Photograph) -> Float[np.ndarray, "k 2"]:
    scale = photograph.small.width / photograph.record.size[1]
    return (unletterbox_points(xy_px, photograph.record.size) * scale).numpy()
