"""Evaluation with pose alignment on the whole synthetic test set, features cached, beside one pair at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from benchmarks import transcription as plain
from benchmarks.timing import Comparison, Contender, assert_same, compare, show
from geoalign.backbone.lite import Lite
from geoalign.data import Synthetic
from geoalign.data.batch.collate import Collate
from geoalign.data.batch.dataset import PairDataset
from geoalign.data.batch.packing import PackedSampler
from geoalign.data.batch.views import PixelLoader, ViewRef
from geoalign.data.records import PairRecord, PairSource
from geoalign.geometry import FLIP, UPRIGHT
from geoalign.matching import Aligned, Matcher, Plain
from geoalign.metrics import PCK
from geoalign.module import CorrespondenceModule, update_pck
from geoalign.refiner import Aggregation
from geoalign.types import PairBatch, Prediction, Views

CACHE = Path(tempfile.gettempdir()) / "geoalign-benchmarks"
"""Where the synthetic set is written, once."""
POSES = (UPRIGHT, FLIP)
MASK_SIDE = 240
VIEWS, PAIRS = 128, 1024  # of an evaluation batch, as in conf/data


class CachedMaps:
    """View loader over maps in memory, extracted once: what a preloaded store is."""

    def __init__(self, source: PairSource, backbone: Lite) -> None:
        pixels = PixelLoader(backbone.image_sizes)
        self.maps: dict[Any, list[Tensor]] = {}
        for image in source.images:
            for pose in POSES:
                ref = ViewRef(image, pose)
                self.maps[ref.key] = [m[0] for m in backbone(pixels([ref])["images"])]

    def __call__(self, views: Sequence[ViewRef]) -> Views:
        return {"maps": [torch.stack(taps) for taps in zip(*(self.maps[ref.key] for ref in views), strict=True)]}


class Evaluation:
    """The synthetic test set, its maps and a refiner of the paper's width with random weights.

    ``images`` of each category where not all, ``cells`` a side, and what else :class:`Synthetic` takes.
    """

    def __init__(self, images: int | None = None, cells: int = 60, cache: Path = CACHE, **chosen: Any) -> None:
        counts: dict[str, Any] = {}
        if images is not None:
            pairs = images * (images - 1)
            counts = {"images": {"trn": 2, "val": 2, "test": images}, "pairs": {"trn": 2, "val": 2, "test": pairs}}
        self.source = Synthetic(cache=cache, split="test", progress=False, **counts, **chosen)
        backbone = Lite(blocks=(4, 10), image_size=8 * cells, grid=cells)
        torch.manual_seed(0)
        refiner = Aggregation(backbone.channels, backbone.grid).eval()
        methods = Plain(), Aligned(POSES, "masked", mask_side=MASK_SIDE)
        self.module = CorrespondenceModule(refiner=refiner, matcher=Matcher(), methods=methods).eval()
        self.dataset = PairDataset(self.source)
        loader = CachedMaps(self.source, backbone)
        self.collate = Collate(self.source, loader, poses=POSES, mask_side=MASK_SIDE)

    def category(self, name: str) -> None:
        """Every pair of a category: plain and aligned predictions, both counted."""
        metrics = (PCK(), PCK())
        part = Subset(self.dataset, [i for i, pair in enumerate(self._pairs()) if pair.category == name])
        sampler = PackedSampler([_ends(part[i].pair) for i in range(len(part))], VIEWS // len(POSES), PAIRS)
        for batch in DataLoader(part, batch_sampler=sampler, collate_fn=self.collate):
            for metric, prediction in zip(metrics, self.predict(batch), strict=True):
                update_pck(
                    metric,
                    prediction.matches,
                    cast(PairBatch, batch | {"category": torch.zeros_like(batch["category"])}),
                )

    def predict(self, batch: PairBatch) -> list[Prediction]:
        """Plain and aligned predictions of a batch, as the module makes them."""
        return list(self.module.predict(batch)[1].values())

    @torch.no_grad()
    def one_pair(self, batch: PairBatch) -> tuple[Tensor, int]:
        """One pair as the reference takes it: three refiner passes, two distances over full maps, two transfers."""
        refiner, views, matcher = self.module.refiner, batch["views"], self.module.matcher
        assert isinstance(refiner, Aggregation)
        poses, trg, partner = batch["src_poses"][0].tolist(), int(batch["trg"][0]), batch["partner"][0]
        refined = {view: plain.refine(refiner, [m[view] for m in views["maps"]]) for view in (*poses, trg)}
        masks = views["masks"]
        distances = [
            plain.masked_distance(refined[pose], refined[trg], masks[pose], masks[trg], None) for pose in poses
        ]
        xy_px, seen = batch["src_xy_px"][0], batch["src_visible"][0]
        upright, _ = plain.transfer(refined[poses[0]], refined[trg], xy_px, matcher)
        choice = int(torch.stack(distances).argmin())
        if choice == 0:
            return upright, choice
        mirrored = torch.stack([matcher.frame_px - xy_px[:, 0], xy_px[:, 1]], dim=-1)[partner]
        flipped, _ = plain.transfer(refined[poses[1]], refined[trg], mirrored, matcher)
        return torch.where(seen[partner].unsqueeze(-1), flipped, upright), choice

    def _pairs(self) -> list[PairRecord]:
        return [self.dataset[i].pair for i in range(len(self.dataset))]


def _ends(pair: PairRecord) -> tuple[Any, Any]:
    return ViewRef(pair.src).key, ViewRef(pair.trg).key


def run(repeats: int = 5, images: int | None = None, **chosen: Any) -> list[Comparison]:
    """The whole test set, a category at a turn, against single pairs of it, spread over its categories."""
    evaluation = Evaluation(images, **chosen)
    pairs, categories = len(evaluation.dataset), evaluation.source.categories
    sampled = [int(i) for i in torch.linspace(0, pairs - 1, repeats + 2)]
    _check(evaluation, sampled)
    singles = cycle([evaluation.collate([evaluation.dataset[i]]) for i in sampled])
    turns = cycle(categories)
    return compare(
        lambda: evaluation.one_pair(next(singles)),
        [
            Contender(
                "evaluation with pose alignment",
                lambda: evaluation.category(next(turns)),
                pairs / len(categories),
                20.0,
            )
        ],
        unit="pair",
        setting=f"synthetic test set, {pairs} pairs, {len(evaluation.source.images)} images, maps in memory",
        repeats=repeats,
    )


def _check(evaluation: Evaluation, indices: list[int]) -> None:
    """The first of some pairs comes out of their common batch as it does alone."""
    batch = evaluation.collate([evaluation.dataset[i] for i in indices])
    _, aligned = evaluation.predict(batch)
    expected, choice = evaluation.one_pair(evaluation.collate([evaluation.dataset[indices[0]]]))
    assert int(aligned.pose[0]) == choice, f"pose {int(aligned.pose[0])} was chosen, {choice} by the transcription"
    seen = batch["visible"][0]  # what is asked for
    assert_same("aligned prediction", expected[seen], aligned.matches.xy_px[0][seen])


if __name__ == "__main__":
    show(run())
