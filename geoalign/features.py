"""Where data and feature store meet: cached maps as a view loader, and filling the store on all ranks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from geoalign.backbone.base import Backbone
from geoalign.backbone.store import FeatureStore, image_hash, view_key
from geoalign.data.samplers import EvaluationSampler
from geoalign.data.views import PixelLoader, ViewRef
from geoalign.types import Views

log = logging.getLogger(__name__)


def store_key(fingerprint: str, ref: ViewRef) -> str:
    """The store's name of a view: backbone, image content and pose."""
    return view_key(fingerprint, image_hash(ref.image.path), str(ref.pose))


class StoreLoader:
    """Reads the bank's maps from a bound feature store; cached and live features are the same type."""

    def __init__(self, store: FeatureStore, fingerprint: str, dtype: torch.dtype = torch.float32) -> None:
        self.store, self.fingerprint, self.dtype = store, fingerprint, dtype

    def __call__(self, views: Sequence[ViewRef]) -> Views:
        keys = [store_key(self.fingerprint, ref) for ref in views]
        return {"maps": self.store.read_many(keys, self.dtype)}


class _ViewDataset(Dataset[tuple[ViewRef, Views]]):
    def __init__(self, refs: Sequence[ViewRef], loader: PixelLoader) -> None:
        self.refs, self.loader = refs, loader

    def __len__(self) -> int:
        return len(self.refs)

    def __getitem__(self, index: int) -> tuple[ViewRef, Views]:
        return self.refs[index], self.loader([self.refs[index]])


class Extractor(LightningModule):
    """Runs the backbone in ``trainer.predict`` and hands each view's maps to the store's writer."""

    def __init__(self, backbone: Backbone, store: FeatureStore) -> None:
        super().__init__()
        self.backbone, self.store = backbone, store
        self.fingerprint = backbone.fingerprint

    def on_predict_start(self) -> None:
        self.writer = self.store.writer().__enter__()

    def predict_step(self, batch: tuple[list[ViewRef], dict[int, Tensor]], _: int) -> None:
        refs, images = batch
        maps = self.backbone(images)
        for i, ref in enumerate(refs):
            name = f"{ref.image.path} ({ref.pose})"
            self.writer.add(store_key(self.fingerprint, ref), [m[i] for m in maps], name)

    def on_predict_end(self) -> None:
        self.writer.flush()


def fill(
    store: FeatureStore,
    backbone: Backbone,
    views: Sequence[ViewRef],
    trainer: Callable[[], Trainer],
    batch_size: int = 4,
    workers: int = 0,
) -> int:
    """Extract what the store lacks, on all ranks of ``trainer()``; the number of views that were missing.

    Views with the same content and pose are extracted once, whatever dataset or split they come from.
    """
    store.bind(backbone)
    by_key = {store_key(backbone.fingerprint, ref): ref for ref in views}
    missing = [by_key[key] for key in store.missing(by_key)]
    if not missing:
        return 0
    probe = backbone(PixelLoader(backbone.image_sizes)([missing[0]])["images"])
    shapes = [(int(m.shape[1]), int(m.shape[2]), int(m.shape[3])) for m in probe]
    print(store.ensure_space(shapes, len(missing)), flush=True)
    runner = trainer()
    loader = _loader(missing, backbone, batch_size, workers, runner)
    runner.predict(Extractor(backbone, store), loader, return_predictions=False)
    runner.strategy.barrier("features")
    store.refresh()
    return len(missing)


def _loader(
    views: Sequence[ViewRef], backbone: Backbone, batch_size: int, workers: int, trainer: Trainer
) -> DataLoader[Any]:
    sampler = EvaluationSampler(range(len(views)), trainer.global_rank, trainer.world_size)
    dataset = _ViewDataset(views, PixelLoader(backbone.image_sizes))
    return DataLoader(dataset, batch_size, sampler=sampler, num_workers=workers, collate_fn=_collate)


def _collate(items: Sequence[tuple[ViewRef, Views]]) -> tuple[list[ViewRef], dict[int, Tensor]]:
    refs, views = zip(*items, strict=True)
    sizes = views[0]["images"].keys()
    return list(refs), {size: torch.cat([v["images"][size] for v in views]) for size in sizes}
