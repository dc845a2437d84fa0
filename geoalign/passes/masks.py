"""Masks for images whose dataset has none: estimated once on all ranks, kept beside the features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool
from lightning import Trainer
from PIL import Image
from torch import Tensor

from geoalign.backbone.base import Backbone
from geoalign.backbone.store import FeatureStore, image_hash
from geoalign.data.batch.masks import dataset_mask
from geoalign.data.batch.views import ViewLoader, ViewRef
from geoalign.data.images import open_mask
from geoalign.data.records import ImageRecord
from geoalign.files import replacing, short_hash
from geoalign.passes.foreground import FromFeatures
from geoalign.passes.sam import SamMasks
from geoalign.passes.views import ViewPass
from geoalign.types import Views

Estimated = Literal["foreground", "sam"]


@runtime_checkable
class Estimator(Protocol):
    """Turns views into masks ``(u m m)`` of any resolution."""

    @property
    def loader(self) -> ViewLoader:
        """Loads what it looks at."""
        ...

    def identity(self) -> dict[str, Any]:
        """Plain data: the settings and weights that the masks depend on beside the image."""
        ...

    def __call__(self, refs: Sequence[ViewRef], views: Views) -> Bool[Tensor, "u m m"]: ...


class SavedMasks:
    """The dataset's mask where it has one, else the estimate in ``folder``; a :class:`MaskLoader`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, image: ImageRecord) -> Path:
        """Where an image's estimate lies: by its content, box and framing, not its place."""
        box = short_hash([float(v) for v in image.box_px])[:8]
        framed = "" if image.framing == "letterbox" else f"-{image.framing}"
        return self.folder / f"{image_hash(image.path)}-{box}{framed}.png"

    def __call__(self, image: ImageRecord, side: int) -> Bool[np.ndarray, "m m"]:
        if image.mask_path is not None:
            return dataset_mask(image, side)
        square = Image.fromarray(open_mask(self.path(image)).astype(np.uint8))
        return np.asarray(square.resize((side, side), Image.Resampling.NEAREST)).astype(bool)

    def write(self, image: ImageRecord, mask: Bool[Tensor, "m m"]) -> None:
        """Keep an estimate, whole or not at all."""
        with replacing(self.path(image)) as partial:
            Image.fromarray(mask.cpu().numpy()).save(partial, format="png")


class MaskPass(ViewPass):
    """Estimates the masks that are not saved yet."""

    def __init__(
        self, estimator: Estimator, saved: SavedMasks, images: Sequence[ImageRecord], batch_size: int, workers: int
    ) -> None:
        super().__init__([ViewRef(image) for image in images], estimator.loader, batch_size, workers)
        self.estimator, self.saved = estimator, saved

    def plan(self) -> list[int]:
        first: dict[Path, int] = {}
        for at, ref in enumerate(self.views):
            first.setdefault(self.saved.path(ref.image), at)
        return [at for path, at in first.items() if not path.exists()]

    def work(self, refs: Sequence[ViewRef], views: Views) -> None:
        for ref, mask in zip(refs, self.estimator(refs, views), strict=True):
            self.saved.write(ref.image, mask)


def estimate_masks(
    kind: Estimated,
    store: FeatureStore,
    backbone: Backbone,
    images: Sequence[ImageRecord],
    trainer: Callable[[], Trainer],
    sam: str = "facebook/sam-vit-base",
    batch_size: int = 4,
    workers: int = 0,
) -> SavedMasks:
    """Masks of ``images``, made where the dataset has none and no earlier run left one.

    ``foreground`` reads the images' upright features from ``store``, which must hold them; ``sam`` (a hub id or a
    folder) looks at the pixels in their boxes.
    """
    estimator: Estimator = FromFeatures(store, backbone) if kind == "foreground" else SamMasks(sam)
    name = short_hash(estimator.identity())
    saved = SavedMasks(store.root / f"masks-{kind}-{name}")
    bare = [image for image in images if image.mask_path is None]
    masks = MaskPass(estimator, saved, bare, batch_size, workers)
    runner = trainer()
    if masks.plan() or runner.world_size > 1:
        saved.folder.mkdir(parents=True, exist_ok=True)
        runner.predict(masks, return_predictions=False)
        runner.strategy.barrier("masks")
    return saved
