"""Foreground masks for pose alignment where a dataset has none."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from geoalign.backbone.tokens import IMAGENET_MEAN, IMAGENET_STD, normalise
from geoalign.backbone.weights import load_model, weights_id

SAM_FILES = ("config.json", "*.safetensors")
_ITERATIONS = 30
_BINS = 64


@torch.no_grad()
def foreground_masks(
    features: Float[Tensor, "u c h w"], content: Bool[Tensor, "u h w"] | None = None
) -> Bool[Tensor, "u h w"]:
    """The half of each view's cells that its features' first principal component sets apart from the border.

    A fallback: it assumes one subject that is nearer to the centre than to the border. ``content`` is False on the
    bars of the letterbox, which would otherwise be the strongest contrast; they are never foreground.
    """
    h, w = features.shape[2:]
    inside = torch.ones_like(features[:, 0], dtype=torch.bool) if content is None else content
    weight = inside.flatten(1).float()
    cells = F.normalize(features.float(), dim=1).flatten(2)
    cells = (cells - _mean(cells, weight)[..., None]) * weight[:, None]
    prior = _centre_prior(inside)
    axis = (cells * prior.flatten(1)[:, None]).sum(-1)  # its sign is the prior's, and power iteration keeps it
    for _ in range(_ITERATIONS):
        axis = F.normalize(torch.einsum("ucn,un->uc", cells, torch.einsum("ucn,uc->un", cells, axis)), dim=1)
    score = torch.einsum("ucn,uc->un", cells, axis)
    # The component may split the subject from within: the border decides which side is background.
    sign = torch.where((score * prior.flatten(1)).sum(1) < 0, -1.0, 1.0)
    score = score * sign[:, None]
    threshold = torch.stack([_otsu(one[keep]) for one, keep in zip(score, inside.flatten(1), strict=True)])
    return (score > threshold[:, None]).unflatten(1, (h, w)) & inside


def content_cells(size: tuple[int, int], grid: int) -> Bool[Tensor, "g g"]:
    """Cells whose centre lies on the image, not on the bars, of a letterboxed image of ``size = (h, w)``.

    >>> content_cells((50, 100), 4).int().tolist()
    [[0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]]
    """
    centre = (torch.arange(grid) + 0.5) / grid - 0.5
    reach = [side / max(size) / 2 for side in size]
    return (centre.abs() <= reach[0])[:, None] & (centre.abs() <= reach[1])[None]


class SamMasks:
    """Segment Anything through transformers, prompted with a box; loaded at its first use."""

    def __init__(self, source: str = "facebook/sam-vit-base", revision: str | None = None) -> None:
        """``source`` is a hub id or a local folder in transformers' format."""
        self.source, self.revision = source, revision
        self._network: Any = None

    def identity(self) -> dict[str, Any]:
        """The weights' hash."""
        return {"name": "sam", "weights": weights_id(self.source, files=SAM_FILES, revision=self.revision)}

    @torch.no_grad()
    def __call__(self, frames: UInt8[Tensor, "u 3 s s"], box_px: Float[Tensor, "u 4"]) -> Bool[Tensor, "u s s"]:
        """The subject in each box ``x1 y1 x2 y2`` (frame px), at the frame's resolution.

        Raises ValueError for an empty box and WeightsError where the weights are absent.
        """
        if bool((box_px[:, 2:] <= box_px[:, :2]).any()):
            raise ValueError(f"boxes are x1 y1 x2 y2 with x1 < x2 and y1 < y2, got {box_px.tolist()}")
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


def _mean(cells: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("ucn,un->uc", cells, weight) / weight.sum(1, keepdim=True).clamp(min=1)


def _centre_prior(inside: Bool[Tensor, "u h w"]) -> Float[Tensor, "u h w"]:
    """Weights of zero mean over the inside: positive near its centre, negative towards its border."""
    h, w = inside.shape[1:]
    spans = [_span(inside.any(2)), _span(inside.any(1))]
    far_y = (torch.arange(h, device=inside.device) - spans[0][0][:, None]) / spans[0][1][:, None]
    far_x = (torch.arange(w, device=inside.device) - spans[1][0][:, None]) / spans[1][1][:, None]
    prior = torch.exp(-2 * (far_y[:, :, None] ** 2 + far_x[:, None] ** 2)) * inside
    mean = prior.sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
    return (prior - mean[:, None, None]) * inside


def _span(used: Bool[Tensor, "u n"]) -> tuple[Tensor, Tensor]:
    """Middle and half length of each view's used rows or columns."""
    first = used.float().argmax(1)
    last = used.shape[1] - 1 - used.flip(1).float().argmax(1)
    return (first + last) / 2, (last - first + 1) / 2


def _otsu(score: Tensor) -> Tensor:
    """The threshold that splits the scores into the two most separate classes (Otsu 1979)."""
    low, high = score.min(), score.max()
    edges = low + (high - low) * torch.arange(1, _BINS, device=score.device) / _BINS
    above = score[None] > edges[:, None]
    share = above.float().mean(1)
    mean_above = (score * above).sum(1) / above.sum(1).clamp(min=1)
    mean_below = (score * ~above).sum(1) / (~above).sum(1).clamp(min=1)
    return edges[(share * (1 - share) * (mean_above - mean_below) ** 2).argmax()]
