"""Keypoints of source views to points in target views: the one place where matching is put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geoalign.bank import Bank, Queries, Source
from geoalign.geometry import FRAME_PX, cell_to_px
from geoalign.matching import readout as readouts
from geoalign.types import Matches

Readout = Literal["argmax", "soft", "window", "kernel"]
POINTS = 1024
"""Points compared at once where no gradient is wanted: 15 MB of similarities at 60×60 cells."""


def at_once(bank: Bank) -> int:
    """Points to compare at once, so that a finer grid takes no more memory."""
    return max(1, POINTS // bank.finer**2)


@dataclass(frozen=True)
class Matcher:
    """Settings of matching; defaults are the clean ones (docs/protocol.md#matcher).

    Args:
        readout: argmax | soft | window | kernel: how a similarity map becomes a point.
        radius: window: cells each side of the peak (7: 15x15); 0 = the whole map; zero-shot in the paper: 5. Cells are
            those of the features: where a head makes the target's grid finer, the window covers the same part of the
            picture with more cells, so that the published values keep their meaning.
        temperature: of the softmax over similarities.
        sigma: kernel: width of the Gaussian around the peak, in the same cells as ``radius``.
        outside: exclude | zero: cells outside the window get no mass, or keep exp(0) as in the release.
        source: bilinear | floor: sub-cell query, or the cell the point lies in (released).
        frame_px: side of the frame in px that points are given in.

    Raises:
        ValueError: A name that is not listed, a temperature or sigma that is not above 0, a negative radius.
    """

    readout: Readout = "window"
    radius: int = 7
    temperature: float = 0.02
    sigma: float = 5.0
    outside: readouts.Outside = "exclude"
    source: Source = "bilinear"
    frame_px: int = FRAME_PX

    def __post_init__(self) -> None:
        allowed = {
            "readout": ("argmax", "soft", "window", "kernel"),
            "outside": ("exclude", "zero"),
            "source": ("bilinear", "floor"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(f"matcher.{name} is one of {', '.join(values)}, got {getattr(self, name)!r}")
        if self.temperature <= 0 or self.sigma <= 0 or self.radius < 0:
            raise ValueError(f"matcher needs temperature > 0, sigma > 0 and radius >= 0, got {self}")

    def read(self, similarity: Float[Tensor, "k h w"], finer: int = 1) -> Float[Tensor, "k 2"]:
        """Point per similarity map, in its own cells; ``finer`` of them make up one cell of the features."""
        if self.readout == "argmax":
            return readouts.argmax(similarity)
        if self.readout == "soft":
            return readouts.soft_argmax(similarity, self.temperature)
        if self.readout == "kernel":
            return readouts.kernel_soft_argmax(similarity, self.sigma * finer, self.temperature)
        return readouts.window_soft_argmax(similarity, self.radius * finer, self.temperature, self.outside)


def transfer(
    bank: Bank,
    src: Int[Tensor, "b"],
    trg: Int[Tensor, "b"],
    src_xy_px: Float[Tensor, "b n 2"],
    matcher: Matcher,
    wanted: Bool[Tensor, "b n"] | None = None,
) -> Matches:
    """Match every wanted keypoint of each row; answers in frame pixels, zero where not wanted."""
    wanted = torch.ones_like(src_xy_px[..., 0], dtype=torch.bool) if wanted is None else wanted
    queries = Queries.of(src, trg, src_xy_px, wanted)
    # a graph holds every map until the backward pass, so parts would save nothing
    whole = torch.is_grad_enabled() and bank.requires_grad
    cells, scores = [], []
    for part in queries.split(len(queries.row) if whole else at_once(bank)):
        similarity = bank.read(part.view, part.xy_px, part.trg, matcher.source).similarity
        cells.append(matcher.read(similarity, bank.finer).to(src_xy_px.dtype))
        scores.append(similarity.detach().flatten(-2).amax(-1).to(src_xy_px.dtype))
    xy_px = cell_to_px(torch.cat(cells), bank.stride)
    return Matches(queries.spread(xy_px, wanted), queries.spread(torch.cat(scores), wanted))
