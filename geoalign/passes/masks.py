"""Masks for images whose dataset has none: estimated once on all ranks, kept beside the features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool
from lightning import Trainer
from PIL import Image
from torch import Tensor

from geoalign.backbone.base import Backbone
from geoalign.backbone.masks import SamMasks, content_cells, foreground_masks
from geoalign.backbone.store import FeatureStore, image_hash
from geoalign.data.batch.views import PixelLoader, ViewLoader, ViewRef, dataset_mask
from geoalign.data.images import open_mask
from geoalign.data.records import ImageRecord
from geoalign.files import replacing, short_hash
from geoalign.geometry import FRAME_PX, letterbox_points
from geoalign.passes.features import StoreLoader
from geoalign.passes.views import ViewPass
from geoalign.refiner.identity import Identity
from geoalign.types import Views

Estimated = Literal["foreground", "sam"]


class Estimator(ABC):
    """Turns views into masks ``(u m m)`` of any resolution; ``identity`` is what they depend on beside the image."""

    loader: ViewLoader

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Plain data that names settings and weights."""

    @abstractmethod
    def __call__(self, refs: Sequence[ViewRef], views: Views) -> Bool[Tensor, "u m m"]: ...


class FromFeatures(Estimator):
    """The first principal component of the zero-shot descriptor (see :func:`foreground_masks`), one pixel a cell."""

    def __init__(self, store: FeatureStore, backbone: Backbone) -> None:
        self.loader = StoreLoader(store, backbone.fingerprint)
        self.descriptor = Identity(backbone.channels, backbone.grid, backbone.groups)
        self.facts = {"name": "foreground", "backbone": backbone.fingerprint, "precision": store.precision}

    def identity(self) -> dict[str, Any]:
        return self.facts

    def __call__(self, refs: Sequence[ViewRef], views: Views) -> Bool[Tensor, "u m m"]:
        cells = self.descriptor(tuple(views["maps"]))
        content = torch.stack([content_cells(ref.image.size, self.descriptor.grid) for ref in refs])
        return foreground_masks(cells, content.to(cells.device))


class FromBoxes(Estimator):
    """Segment Anything, prompted with each image's box."""

    def __init__(self, sam: SamMasks) -> None:
        self.sam, self.loader = sam, PixelLoader((FRAME_PX,))

    def identity(self) -> dict[str, Any]:
        return {**self.sam.identity(), "frame_px": FRAME_PX}

    def __call__(self, refs: Sequence[ViewRef], views: Views) -> Bool[Tensor, "u m m"]:
        frames = views["images"][FRAME_PX]
        return self.sam(frames, torch.stack([_framed_box(ref.image) for ref in refs]).to(frames.device))


class SavedMasks:
    """The dataset's mask where it has one, else the estimate in ``folder``; a :class:`MaskLoader`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, image: ImageRecord) -> Path:
        """Where an image's estimate lies: by its content and box, not its place."""
        box = short_hash([float(v) for v in image.box_px])[:8]
        return self.folder / f"{image_hash(image.path)}-{box}.png"

    def __call__(self, image: ImageRecord, side: int) -> np.ndarray:
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
    estimator: Estimator = FromFeatures(store, backbone) if kind == "foreground" else FromBoxes(SamMasks(sam))
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


def _framed_box(image: ImageRecord) -> Tensor:
    x1, y1, x2, y2 = image.box_px
    if not (x1 < x2 and y1 < y2):
        raise ValueError(
            f"{image.path}: box {image.box_px} is empty, and SAM needs one; correct it, or set "
            "alignment.masks=foreground"
        )
    corners = torch.tensor([[x1, y1], [x2, y2]], dtype=torch.float32)
    return letterbox_points(corners, image.size).flatten()
