"""Keypoints of source views to points in target views: the one place where matching is put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geoalign.geometry import FRAME_PX, cell_to_px
from geoalign.matching import readout as readouts
from geoalign.matching.correlation import POINTS, Source, correlate
from geoalign.types import Matches

Readout = Literal["argmax", "soft", "window", "kernel"]


@dataclass(frozen=True)
class Matcher:
    """Settings of matching; defaults are the clean ones (PROTOCOL §2, §5).

    ``frame_px`` is the side of the frame in pixels.

    Args:
        readout: argmax | soft | window | kernel
        radius: window: cells each side of the peak (15x15); 0: the whole map; zero-shot in the paper: 5
        temperature: of the softmax over similarities
        sigma: kernel: cells
        outside: exclude | zero (released: cells outside keep a mass of exp(0))
        source: bilinear: sub-cell query | floor: the cell the point lies in (released)
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

    def read(self, similarity: Float[Tensor, "k h w"]) -> Float[Tensor, "k 2"]:
        """Point per similarity map, in cells."""
        if self.readout == "argmax":
            return readouts.argmax(similarity)
        if self.readout == "soft":
            return readouts.soft_argmax(similarity, self.temperature)
        if self.readout == "kernel":
            return readouts.kernel_soft_argmax(similarity, self.sigma, self.temperature)
        return readouts.window_soft_argmax(similarity, self.radius, self.temperature, self.outside)


def match_points(
    bank: Float[Tensor, "u c h w"],
    src: Int[Tensor, "k"],
    trg: Int[Tensor, "k"],
    src_xy_px: Float[Tensor, "k 2"],
    matcher: Matcher,
) -> tuple[Float[Tensor, "k 2"], Float[Tensor, "k"]]:
    """Points of views ``src`` in views ``trg``: cells ``(x, y)`` and the peak similarity."""
    stride = matcher.frame_px / bank.shape[-1]
    order = torch.argsort(trg, stable=True)
    cells, score = src_xy_px.new_zeros(len(trg), 2), src_xy_px.new_zeros(len(trg))
    for some in order.split(POINTS if not (torch.is_grad_enabled() and bank.requires_grad) else max(1, len(order))):
        _, similarity = correlate(bank, src[some], src_xy_px[some], trg[some], stride, matcher.source)
        cells = cells.index_put((some,), matcher.read(similarity).to(cells.dtype))
        score = score.index_put((some,), similarity.detach().flatten(-2).amax(-1).to(score.dtype))
    return cells, score


def transfer(
    bank: Float[Tensor, "u c h w"],
    src: Int[Tensor, "b"],
    trg: Int[Tensor, "b"],
    src_xy_px: Float[Tensor, "b n 2"],
    matcher: Matcher,
    wanted: Bool[Tensor, "b n"] | None = None,
) -> Matches:
    """Match every wanted keypoint of each row; answers in frame pixels, zero where not wanted."""
    wanted = torch.ones_like(src_xy_px[..., 0], dtype=torch.bool) if wanted is None else wanted
    row, _ = torch.nonzero(wanted, as_tuple=True)
    cells, score = match_points(bank, src[row], trg[row], src_xy_px[wanted], matcher)
    xy_px, scores = torch.zeros_like(src_xy_px), torch.zeros_like(src_xy_px[..., 0])
    xy_px[wanted] = cell_to_px(cells, matcher.frame_px / bank.shape[-1]).to(xy_px.dtype)
    scores[wanted] = score.to(scores.dtype)
    return Matches(xy_px, scores)
