"""Segment Anything: masks for pose alignment from a picture and its box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from geoalign.backbone.tokens import IMAGENET_MEAN, IMAGENET_STD, normalise
from geoalign.backbone.weights import load_model, weights_id
from geoalign.data.batch.views import PixelLoader, ViewRef
from geoalign.data.records import ImageRecord
from geoalign.geometry import FRAME_PX, letterbox_points
from geoalign.types import Views

SAM_FILES = ("config.json", "*.safetensors")


class SamMasks:
    """Segment Anything through transformers, prompted with a box; loaded at its first use."""

    def __init__(self, source: str = "facebook/sam-vit-base", revision: str | None = None) -> None:
        """``source`` is a hub id or a local folder in transformers' format."""
        self.source, self.revision, self.loader = source, revision, PixelLoader((FRAME_PX,))
        self._network: Any = None

    def identity(self) -> dict[str, Any]:
        """The weights' hash and the frame's side."""
        weights = weights_id(self.source, files=SAM_FILES, revision=self.revision)
        return {"name": "sam", "weights": weights, "frame_px": FRAME_PX}

    def __call__(self, refs: Sequence[ViewRef], views: Views) -> Bool[Tensor, "u s s"]:
        """The subject in each image's box; ValueError names an image whose box is empty."""
        frames = views["images"][FRAME_PX]
        return self.in_boxes(frames, torch.stack([_framed_box(ref.image) for ref in refs]).to(frames.device))

    @torch.no_grad()
    def in_boxes(self, frames: UInt8[Tensor, "u 3 s s"], box_px: Float[Tensor, "u 4"]) -> Bool[Tensor, "u s s"]:
        """The subject in each box ``x1 y1 x2 y2`` (frame px), at the frame's resolution.

        Raises:
            WeightsError: the weights are absent, or no Segment Anything.
        """
        network = self._loaded(frames.device)
        side, size = int(network.config.vision_config.image_size), frames.shape[-1]
        pixels = normalise(frames, IMAGENET_MEAN, IMAGENET_STD)
        pixels = F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
        boxes = (box_px.float() * (side / size))[:, None]
        logits = network(pixel_values=pixels, input_boxes=boxes, multimask_output=False).pred_masks[:, 0]
        masks: Tensor = F.interpolate(logits, size=(size, size), mode="bilinear")[:, 0] > 0
        return masks

    def _loaded(self, device: torch.device) -> Any:
        if self._network is None:
            from transformers import SamModel

            loaded = load_model(SamModel.from_pretrained, self.source, files=SAM_FILES, revision=self.revision)
            self._network = loaded.requires_grad_(False).eval()
        return self._network.to(device)


def _framed_box(image: ImageRecord) -> Tensor:
    x1, y1, x2, y2 = image.box_px
    if not (x1 < x2 and y1 < y2):
        raise ValueError(
            f"{image.path}: box {image.box_px} is empty, and SAM needs one; correct it, or set "
            "alignment.masks=foreground"
        )
    corners = torch.tensor([[x1, y1], [x2, y2]], dtype=torch.float32)
    return letterbox_points(corners, image.size, framing=image.framing).flatten()
