"""The smallest parts that make a whole run: a frozen random backbone and a refiner that fits it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from helpers.pixels import PixelUpsampler
from torch import Tensor, nn

from geoalign.backbone import Lite
from geoalign.backbone.base import Backbone
from geoalign.losses import Cosine, DenseLoss, DistilLoss, GaussianLoss, MirrorLoss, SparseLoss, WeightedSum
from geoalign.matching import Matcher, Method, Plain
from geoalign.module import CorrespondenceModule
from geoalign.refiner import Aggregation, ExternalHead, FieldHead, Refiner, Tail, UpsampleHead


class TinyBackbone(Backbone):
    """Two random convolutions of strides 8 and 16, the same for the same seed."""

    def __init__(self, seed: int = 0, image_size: int = 64) -> None:
        super().__init__()
        self.seed, self.image_sizes, self.grid, self.channels = seed, (image_size,), image_size // 8, (6, 10)
        generator = torch.Generator().manual_seed(seed)
        self.fine, self.coarse = nn.Conv2d(3, 6, 8, 8, bias=False), nn.Conv2d(3, 10, 16, 16, bias=False)
        for weight in (self.fine.weight, self.coarse.weight):
            weight.data = torch.randn(weight.shape, generator=generator) / weight[0].numel() ** 0.5
        self.freeze()

    def extract(self, images: dict[int, Tensor]) -> tuple[Tensor, ...]:
        pixels = images[self.image_sizes[0]].float() / 255 - 0.5
        return self.fine(pixels), self.coarse(pixels)

    def identity(self) -> dict[str, Any]:
        return {"name": "tiny", "seed": self.seed, "image_size": self.image_sizes[0]}


def tiny_loss(**kinds: float) -> WeightedSum:
    """Sparse and dense on every kind given (plain only by default)."""
    return WeightedSum(kinds or {"plain": 1.0}, sparse=SparseLoss(), dense=DenseLoss(Matcher(radius=2)))


def tiny_tail(dropout: float = 0.0) -> tuple[Backbone, Refiner]:
    """Lite cut before its last two blocks, and LoRA in those before the paper's refiner."""
    backbone = Lite([2, 4], 64, grid=8, cut=3)
    assert backbone.rest is not None
    torch.manual_seed(0)
    tail = Tail(Aggregation((24, 40), 8, 64, 64, dropout), backbone.rest.network, tune="lora")
    tail.start(backbone.rest)
    return backbone, tail


def tiny_module(
    backbone: Backbone | None = None,
    dropout: float = 0.0,
    methods: Sequence[Method] = (Plain(),),
    refiner: Refiner | None = None,
    **kinds: float,
) -> CorrespondenceModule:
    """A trainable module on the tiny backbone, or on another with its refiner."""
    torch.manual_seed(0)
    return CorrespondenceModule(
        refiner=refiner or Aggregation((6, 10), grid=8, width=64, hidden=64, dropout=dropout),
        matcher=Matcher(radius=2),
        backbone=backbone if backbone is not None else TinyBackbone(),
        loss=tiny_loss(**kinds),
        methods=methods,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-3),
    )


DEEPER = ("tail", "upsample", "field", "external", "distil")
"""Parts that train deeper or finer, each with losses that go with it."""


def tiny_deeper(part: str) -> CorrespondenceModule:
    """A module with one of :data:`DEEPER`; nothing in it picks a peak, which rounding could move."""
    backbone, refiner = tiny_tail() if part == "tail" else (TinyBackbone(), _tiny_finer(part))
    soft, terms = DenseLoss(Matcher(readout="soft")), dict[str, Any]()
    if part == "distil":
        terms = {"dense": soft, "distil": DistilLoss(agree="cycle", matches=20, least=3, decay=Cosine(0.5, 0.9))}
    elif part == "upsample":
        terms = {"gaussian": GaussianLoss(Cosine(3.0, 1.0, until=4, unit="steps")), "mirror": MirrorLoss()}
    else:
        terms = {"sparse": SparseLoss(), "dense": soft}
    loss = WeightedSum({"plain": 1.0, "double": 1.0}, **terms)
    return CorrespondenceModule(refiner, Matcher(radius=2), backbone, loss, lambda p: torch.optim.AdamW(p, lr=1e-3))


def _tiny_finer(part: str) -> Refiner:
    torch.manual_seed(0)
    refiner = Aggregation((6, 10), grid=8, width=64, hidden=64, dropout=0.0)
    if part == "upsample":
        return UpsampleHead(refiner, 2, width=32)
    if part == "field":
        return FieldHead(refiner, 2)
    return ExternalHead(refiner, PixelUpsampler(), 2, image_size=64) if part == "external" else refiner
