"""Foreground from features: masks for pose alignment where a dataset has none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from geoalign.backbone.base import Backbone
from geoalign.backbone.store import FeatureStore
from geoalign.data.batch.views import ViewRef
from geoalign.geometry import content_cells
from geoalign.passes.features import StoreLoader
from geoalign.refiner.tail import frozen_features
from geoalign.types import Views

NEAR = 0.1
"""Of the frame: cells of the edge so near are a cell's neighbours."""
_ITERATIONS = 30
_BINS = 64


class FromFeatures:
    """The first principal component of the zero-shot descriptor (see :func:`foreground_masks`), one pixel a cell."""

    def __init__(self, store: FeatureStore, backbone: Backbone) -> None:
        self.loader = StoreLoader(store, backbone.fingerprint)
        self.descriptor = frozen_features(backbone.channels, backbone.grid, backbone.groups, backbone.rest)
        self.facts = {"name": "foreground", "backbone": backbone.fingerprint, "precision": store.precision}

    def identity(self) -> dict[str, Any]:
        return self.facts

    def __call__(self, refs: Sequence[ViewRef], views: Views) -> Bool[Tensor, "u m m"]:
        maps, grid = tuple(views["maps"]), self.descriptor.grid
        cells = self.descriptor.to(maps[0].device)(maps)
        content = torch.stack([content_cells(ref.image.size, grid, ref.image.framing) for ref in refs])
        return foreground_masks(cells, content.to(cells.device))


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
    threshold = torch.stack([otsu(one[keep]) for one, keep in zip(score, inside.flatten(1), strict=True)])
    return (score > threshold[:, None]).unflatten(1, (h, w)) & inside


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


def otsu(score: Tensor) -> Tensor:
    """The threshold that splits the scores into the two most separate classes (Otsu 1979)."""
    low, high = score.min(), score.max()
    edges = low + (high - low) * torch.arange(1, _BINS, device=score.device) / _BINS
    above = score[None] > edges[:, None]
    share = above.float().mean(1)
    mean_above = (score * above).sum(1) / above.sum(1).clamp(min=1)
    mean_below = (score * ~above).sum(1) / (~above).sum(1).clamp(min=1)
    return edges[(share * (1 - share) * (mean_above - mean_below) ** 2).argmax()]


def set_apart(features: Float[Tensor, "c g g"], content: Bool[Tensor, "g g"]) -> Bool[Tensor, "g g"]:
    """The largest piece of cells that are least like any of the picture's edge, without holes.

    An edge is background as a rule: a cell's distance is to the nearest descriptor of the edge that is not its
    neighbour, and the threshold Otsu's. Against the boxes of 90 training photographs (livestock, ``lite``) its
    intersection over union is 0.61 for cattle, 0.60 for horses and 0.39 for sheep; the first principal component
    (:func:`foreground_masks`) has 0.40, 0.41 and 0.29.
    """
    from scipy.ndimage import binary_fill_holes, label

    cells, kept = F.normalize(features.float().flatten(1).T, dim=1), content.flatten()
    edge = torch.nonzero((content & ~inner(content)).flatten()).flatten()
    at = torch.stack(torch.meshgrid(*map(torch.arange, content.shape), indexing="ij"), -1).flatten(0, 1).float()
    like = (cells @ cells[edge].T).masked_fill(torch.cdist(at, at[edge]) < NEAR * len(content), -1.0).amax(1)
    pieces, count = label(((-like > otsu(-like[kept])) & kept).reshape(content.shape).numpy())
    if not count:
        return torch.zeros_like(content)
    sizes = np.bincount(pieces.ravel())[1:]
    return torch.from_numpy(binary_fill_holes(pieces == 1 + sizes.argmax()))


def inner(content: Bool[Tensor, "g g"]) -> Bool[Tensor, "g g"]:
    """Cells all of whose neighbours are content too."""
    wide = F.pad(content, (1, 1, 1, 1))
    return wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
