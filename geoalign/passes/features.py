"""Where data and feature store meet: filling the store on all ranks, and cached maps as a view loader."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from lightning import Trainer

from geoalign.backbone import debias
from geoalign.backbone.base import Backbone
from geoalign.backbone.store import FeatureStore, StoreError, identity, image_hash, view_key
from geoalign.console import say
from geoalign.data.batch.views import PixelLoader, ViewLoader, ViewRef
from geoalign.passes.views import ViewPass
from geoalign.types import Views


def store_key(fingerprint: str, ref: ViewRef) -> str:
    """The store's name of a view: backbone, image content, pose, crop and framing."""
    shown = str(ref.pose) if ref.crop is None else f"{ref.pose} {ref.crop}"
    shown += "" if ref.image.framing == "letterbox" else f" {ref.image.framing}"
    return view_key(fingerprint, image_hash(ref.image.path), shown)


class StoreLoader:
    """Reads the bank's maps from a bound feature store; cached and live features are the same type."""

    def __init__(self, store: FeatureStore, fingerprint: str, dtype: torch.dtype = torch.float32) -> None:
        self.store, self.fingerprint, self.dtype = store, fingerprint, dtype

    def __call__(self, views: Sequence[ViewRef]) -> Views:
        keys = [store_key(self.fingerprint, ref) for ref in views]
        return {"maps": self.store.read_many(keys, self.dtype)}

    def preload(self, views: Sequence[ViewRef], device: torch.device) -> None:
        """Keep these views' maps in memory where ``store.preload`` says; ``device`` is this rank's."""
        with torch.cuda.device(device) if self.store.preload == "cuda" else contextlib.nullcontext():
            self.store.preload_views(store_key(self.fingerprint, ref) for ref in views)


class FramesBeside:
    """Cached maps, and beside them the frames that a refiner looks at itself."""

    def __init__(self, maps: ViewLoader, frames: PixelLoader) -> None:
        self.maps, self.frames = maps, frames

    def __call__(self, views: Sequence[ViewRef]) -> Views:
        return {**self.maps(views), **self.frames(views)}


class Extractor(ViewPass):
    """Runs the backbone on what the store lacks and hands each view's maps to the store."""

    def __init__(
        self, backbone: Backbone, store: FeatureStore, views: Sequence[ViewRef], batch_size: int = 4, workers: int = 0
    ) -> None:
        super().__init__(views, PixelLoader(backbone.image_sizes), batch_size, workers)
        self.backbone, self.store = backbone, store
        self.fingerprint = backbone.fingerprint
        self.keys = [store_key(self.fingerprint, ref) for ref in self.views]

    def plan(self) -> list[int]:
        """The first view of each missing key; prints the size, refuses where the disk is too small."""
        first: dict[str, int] = {}
        for at, key in enumerate(self.keys):
            first.setdefault(key, at)
        missing = self.store.missing(first)
        if missing:
            self.store.prepare()
            known = debias.restore(self.backbone, self.store.folder)
            say(f"{len(missing)} views: {self.store.ensure_space(self._shapes(), len(missing))}")
            if not known:
                debias.keep(self.backbone, self.store.folder)
        return [first[key] for key in missing]

    def on_predict_start(self) -> None:
        """All ranks take what one found, and a store never holds features of two findings."""
        debias.restore(self.backbone, self.store.folder)

    def work(self, refs: Sequence[ViewRef], views: Views) -> None:
        maps = self.backbone(views["images"])
        keys = [store_key(self.fingerprint, ref) for ref in refs]
        self.store.add_batch(keys, maps, [f"{ref.image.path} ({ref.pose})" for ref in refs])

    def _shapes(self) -> list[tuple[int, int, int]]:
        """Of the maps of one view: a black one is enough to see them."""
        black = {s: torch.zeros(1, 3, s, s, dtype=torch.uint8, device=self.device) for s in self.backbone.image_sizes}
        with torch.autocast(self.device.type, enabled=False):
            return [(m.shape[1], m.shape[2], m.shape[3]) for m in self.backbone(black)]


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

    Raises:
        StoreError: the disk is too small or read-only, a feature is not finite, the trainer left views out, or what is
            stored has not the backbone's maps.
    """
    store.bind(backbone)
    extractor = Extractor(backbone, store, views, batch_size, workers)
    lacking = set(store.missing(extractor.keys))
    _check_held(store, backbone, next((key for key in extractor.keys if key not in lacking), None))
    missing = len(lacking)
    runner = trainer()
    # Ranks started at different times may see different stores: with several, rank 0 decides once all are up.
    if missing or runner.world_size > 1:
        runner.predict(extractor, return_predictions=False)
        runner.strategy.barrier("features")
    if left := store.missing(extractor.keys):
        raise StoreError(
            f"{len(left)} of {missing} views were not extracted; the trainer must see every batch: set "
            "trainer.limit_predict_batches=1.0, trainer.fast_dev_run=false, trainer.use_distributed_sampler=false"
        )
    return missing


def _check_held(store: FeatureStore, backbone: Backbone, key: str | None) -> None:
    """Compare the maps of a stored view with what the backbone gives, before others are added to them."""
    held = None if key is None else [m.shape[0] for m in store.read(key, None)]
    if held is not None and held != list(backbone.channels):
        raise StoreError(
            f"{store.folder} holds maps of {held} channels, the backbone gives {list(backbone.channels)} "
            "(with a cut its tokens too); delete the folder and extract again"
        )


def check_preload(store: FeatureStore, workers: int) -> None:
    """Refuse what ``store.preload`` cannot do, before anything is extracted."""
    if store.preload != "cuda":
        return
    if workers:
        raise ValueError(
            f"store.preload=cuda keeps maps on the device, where {workers} loader processes cannot read them; "
            "set data.workers=0, or store.preload=cpu"
        )
    if not torch.cuda.is_available():
        raise ValueError("store.preload=cuda needs a CUDA device, and none is available; set store.preload=cpu")


def stores_under(root: Path | str) -> Iterator[FeatureStore]:
    """Every store in a root folder, one per backbone, opened by what its own ``store.json`` says."""
    for path in sorted(Path(root).glob(f"*/{identity.FILE}")):
        held = identity.read(path)
        yield FeatureStore(root, held["precision"], fingerprint=path.parent.name, identity=held["identity"])
