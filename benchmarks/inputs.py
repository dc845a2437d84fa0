"""Generated banks, rows and maps of the paper's sizes; seeded, so that both sides see the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.transcription import PairRow
from geoalign.geometry import FRAME_PX
from geoalign.losses import DenseLoss, SparseLoss, WeightedSum
from geoalign.matching import Matcher
from geoalign.refiner import Aggregation
from geoalign.types import KINDS, PairBatch

ALL_KINDS: Mapping[str, float] = {"plain": 1.0, "single": 1.0, "double": 1.0, "self": 0.25}


@dataclass(frozen=True)
class Sizes:
    """Cells a side, channels of the maps and of the descriptor, keypoint slots; visible share of the slots."""

    cells: int = 60
    channels: tuple[int, ...] = (640, 1280, 1280, 768)
    map_cells: tuple[int, ...] = (60, 30, 15, 60)
    width: int = 768
    slots: int = 20
    visible: float = 0.6
    frame_px: int = 840


PAPER = Sizes()


def bank(views: int, sizes: Sizes = PAPER, seed: int = 0) -> Tensor:
    """Unit descriptors of smooth random fields, laid out as the refiners leave them."""
    generator = torch.Generator().manual_seed(seed)
    side = max(2, sizes.cells // 3)
    coarse = torch.randn(views, sizes.width, side, side, generator=generator)
    smooth = F.interpolate(coarse, size=(sizes.cells,) * 2, mode="bicubic")
    fine = 0.3 * torch.randn(smooth.shape, generator=generator)
    return F.normalize(smooth + fine, dim=1).contiguous(memory_format=torch.channels_last)


def maps(views: int, sizes: Sizes = PAPER, seed: int = 0) -> tuple[Tensor, ...]:
    """Frozen maps at their native resolutions."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(views, c, side, side, generator=generator)
        for c, side in zip(sizes.channels, sizes.map_cells, strict=True)
    )


def blob_masks(views: int, side: int = 240, share: float = 0.25, seed: int = 0) -> Tensor:
    """Ellipses that fill ``share`` of the frame, as objects do (20 % in the synthetic test set)."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    flat = 0.6 + 0.8 * torch.rand(views, 1, 1, generator=generator)
    area = 4 * share / torch.pi
    return (x / flat) ** 2 + (y * flat) ** 2 <= area


def clique(images: int, sizes: Sizes = PAPER, seed: int = 0) -> PairBatch:
    """All ordered pairs of ``images``, with flips: view ``2 i`` is image i upright, ``2 i + 1`` flipped.

    The self rows of a clique are the same for all pairs of a source: one row that counts ``images - 1`` times.
    """
    ends = [(a, b) for a in range(images) for b in range(images) if a != b]
    rows = [(2 * a, 2 * b, "plain") for a, b in ends]
    rows += [(2 * a + 1, 2 * b, "single") for a, b in ends]
    rows += [(2 * a + 1, 2 * b + 1, "double") for a, b in ends]
    rows += [(2 * a + 1, 2 * a, "self") for a in range(images)]
    counts = [1.0] * (3 * len(ends)) + [images - 1.0] * images
    return batch(rows, counts, sizes, seed)


def single_pair(sizes: Sizes = PAPER, seed: int = 0) -> PairBatch:
    """One pair with flips: the four views of two images and the paper's four rows."""
    return batch([(0, 2, "plain"), (1, 2, "single"), (1, 3, "double"), (1, 0, "self")], [1.0] * 4, sizes, seed)


def batch(rows: list[tuple[int, int, str]], counts: list[float], sizes: Sizes = PAPER, seed: int = 0) -> PairBatch:
    """Rows with random keypoints, at least one visible in each."""
    generator = torch.Generator().manual_seed(seed)
    src, trg, kinds = zip(*rows, strict=True)
    shape = (len(rows), sizes.slots)
    visible = torch.rand(shape, generator=generator) < sizes.visible
    visible[:, 0] = True
    facts: dict[str, Any] = {
        "src": torch.tensor(src),
        "trg": torch.tensor(trg),
        "kind": torch.tensor([KINDS.index(kind) for kind in kinds]),
        "src_xy_px": torch.rand(*shape, 2, generator=generator) * sizes.frame_px,
        "trg_xy_px": torch.rand(*shape, 2, generator=generator) * sizes.frame_px,
        "visible": visible,
        "src_visible": visible,
        "count": torch.tensor(counts),
        "size_px": torch.full((len(rows),), sizes.frame_px / 2),
        "noise": torch.randn(*shape, 2, generator=generator),
        "partner": torch.arange(sizes.slots).flip(0).expand(shape),
    }
    return cast(PairBatch, facts)


def pair_rows(views: list[Tensor], rows: PairBatch, noise: float = 0.0, frame_px: float = FRAME_PX) -> list[PairRow]:
    """The rows of a batch as the transcription takes them."""
    return [
        PairRow(
            views[src],
            views[trg],
            rows["src_xy_px"][i],
            rows["trg_xy_px"][i],
            rows["visible"][i],
            KINDS[int(rows["kind"][i])],
            float(rows["count"][i]),
            rows["noise"][i] * noise * rows["size_px"][i] / 2,
            frame_px,
        )
        for i, (src, trg) in enumerate(zip(rows["src"].tolist(), rows["trg"].tolist(), strict=True))
    ]


def loss(sizes: Sizes = PAPER, matcher: Matcher | None = None) -> WeightedSum:
    """Sparse and dense with all of the paper's kinds of row."""
    matcher = matcher or Matcher(frame_px=sizes.frame_px)
    return WeightedSum(ALL_KINDS, sparse=SparseLoss(matcher.source), dense=DenseLoss(matcher))


def refiner(sizes: Sizes = PAPER, seed: int = 0) -> Aggregation:
    """The paper's refiner with random weights."""
    torch.manual_seed(seed)
    return Aggregation(sizes.channels, sizes.cells, sizes.width)
