"""The formulas as the protocol states them, pair by pair: full maps, loops where the reference loops.

Nothing here is clever and nothing is shared with the fast paths but settings, so that it can judge both their
answers and their speed. Maps are ``(c h w)``, points ``(x, y)`` in frame pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from geoalign.bank import Source
from geoalign.geometry import FRAME_PX
from geoalign.losses import DenseLoss, SparseLoss, WeightedSum
from geoalign.matching import Matcher
from geoalign.refiner import Aggregation


def cells(view: Tensor) -> Tensor:
    """Descriptors ``(h·w c)``, row-major."""
    return view.flatten(1).T


def similarity(source: Tensor, target: Tensor) -> Tensor:
    """Every source cell against every target cell."""
    return cells(source) @ cells(target).T


def describe(view: Tensor, xy_px: Tensor, frame_px: float, source: Source) -> Tensor:
    """Descriptor ``(c)`` of one point: its cell's, or between the four nearest cells and normalised."""
    _, h, w = view.shape
    x, y = (xy_px / (frame_px / w)).tolist()
    if source == "floor":
        return view[:, _inside(y // 1, h), _inside(x // 1, w)]
    x, y = x - 0.5, y - 0.5
    left, top = x // 1, y // 1
    found = torch.zeros_like(view[:, 0, 0])
    for dy, wy in ((0, 1 - (y - top)), (1, y - top)):
        for dx, wx in ((0, 1 - (x - left)), (1, x - left)):
            found = found + wx * wy * view[:, _inside(top + dy, h), _inside(left + dx, w)]
    return found / found.norm().clamp(min=1e-12)


def rows(source: Tensor, target: Tensor, xy_px: Tensor, matcher: Matcher) -> list[Tensor]:
    """Similarity map ``(h w)`` of each point: rows of the full map where points take whole cells."""
    _, h, w = source.shape
    full = similarity(source, target)
    found = []
    for point in xy_px:
        if matcher.source == "floor":
            x, y = (point / (matcher.frame_px / w)).tolist()
            found.append(full[_inside(y // 1, h) * w + _inside(x // 1, w)].view(h, w))
        else:
            found.append((cells(target) @ describe(source, point, matcher.frame_px, "bilinear")).view(h, w))
    return found


def read(row: Tensor, matcher: Matcher) -> Tensor:
    """One point ``(x, y)`` in cells from one similarity map ``(h w)``."""
    h, w = row.shape
    ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    best = int(row.detach().argmax())
    if matcher.readout == "argmax":
        return torch.tensor([best % w, best // w], dtype=row.dtype)
    far_x, far_y = (xs - best % w).abs(), (ys - best // w).abs()
    if matcher.readout == "kernel":
        row = row * torch.exp(-(far_x**2 + far_y**2) / (2 * matcher.sigma**2))
    elif matcher.readout == "window" and matcher.radius > 0:
        near = (far_x <= matcher.radius) & (far_y <= matcher.radius)
        row = torch.where(near, row, 0.0 if matcher.outside == "zero" else -torch.inf)
    weight = torch.softmax(row.flatten() / matcher.temperature, 0).view(h, w)
    return torch.stack([(weight * xs).sum(), (weight * ys).sum()])


def transfer(source: Tensor, target: Tensor, xy_px: Tensor, matcher: Matcher) -> tuple[Tensor, Tensor]:
    """Points ``(n 2)`` of the source in the target, in pixels, and their peaks."""
    stride = matcher.frame_px / target.shape[-1]
    found = rows(source, target, xy_px, matcher)
    points = [read(row, matcher) * stride + stride / 2 for row in found]
    return torch.stack(points), torch.stack([row.max() for row in found])


def masked_distance(source: Tensor, target: Tensor, src_mask: Tensor, trg_mask: Tensor, grid: int | None) -> Tensor:
    """IMD inside both masks: a loop over source cells, each against every target cell."""
    source, src_inside = _on_grid(source, src_mask, grid)
    target, trg_inside = _on_grid(target, trg_mask, grid)
    all_target, nearest = cells(target), []
    for descriptor in cells(source)[src_inside.flatten()]:
        distance = torch.linalg.vector_norm(all_target - descriptor, dim=1)
        nearest.append(distance.masked_fill(~trg_inside.flatten(), torch.inf).min())
    return torch.stack(nearest).mean()


def mutual_distance(source: Tensor, target: Tensor) -> Tensor:
    """Mean distance over cells that are each other's nearest."""
    full = similarity(source, target)
    forth, back = full.argmax(1), full.argmax(0)
    mutual = back[forth] == torch.arange(len(forth))
    return (cells(source)[mutual] - cells(target)[forth[mutual]]).norm(dim=1).mean()


class PairRow(NamedTuple):
    """One row of a batch, its views looked up: what the losses of the reference are given."""

    source: Tensor
    target: Tensor
    src_xy_px: Tensor
    trg_xy_px: Tensor
    visible: Tensor
    kind: str
    times: float = 1.0
    noise_px: Tensor | None = None
    frame_px: float = FRAME_PX


def sparse_loss(row: PairRow, loss: SparseLoss, logit_scale: Tensor) -> Tensor:
    """Symmetric cross-entropy of one pair's visible keypoints."""
    ends = ((row.source, row.src_xy_px), (row.target, row.trg_xy_px))
    src, trg = (
        torch.stack([describe(view, xy, row.frame_px, loss.source) for xy in points[row.visible]])
        for view, points in ends
    )
    logits = logit_scale.exp() * src @ trg.T
    right = torch.arange(len(logits))
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def dense_loss(row: PairRow, loss: DenseLoss) -> Tensor:
    """Mean distance in cells of one pair's visible keypoints."""
    stride, matcher = loss.matcher.frame_px / row.source.shape[-1], loss.matcher
    distances = []
    src_xy, trg_xy = row.src_xy_px[row.visible], row.trg_xy_px[row.visible]
    noise = torch.zeros_like(trg_xy) if row.noise_px is None else row.noise_px[row.visible]
    for found, src, trg, shift in zip(
        rows(row.source, row.target, src_xy, matcher), src_xy, trg_xy, noise, strict=True
    ):
        predicted = read(found, matcher)
        if loss.target == "released":
            truth = (trg - src) / stride
            predicted = predicted - torch.floor(src / stride)
        else:
            truth = trg / stride - 0.5
        distances.append((predicted - truth - shift / stride).norm())
    return torch.stack(distances).mean()


def total_loss(pairs: Sequence[PairRow], loss: WeightedSum, logit_scale: Tensor) -> Tensor:
    """Σ w·l / Σ w over rows with a visible keypoint; the sparse term enters plain rows only."""
    total, weights = torch.zeros(()), 0.0
    for row in pairs:
        weight = loss.kinds.get(row.kind, 0.0) * row.times
        if weight == 0 or not row.visible.any():
            continue
        value = torch.zeros(())
        if "sparse" in loss.terms and row.kind == "plain":
            value = value + loss.weights["sparse"] * sparse_loss(row, loss.terms["sparse"], logit_scale)
        if "dense" in loss.terms:
            value = value + loss.weights["dense"] * dense_loss(row, loss.terms["dense"])
        total, weights = total + weight * value, weights + weight
    return total / max(weights, torch.finfo(torch.float32).tiny)


def refine(refiner: Aggregation, maps: Sequence[Tensor]) -> Tensor:
    """One refiner pass over one view's maps ``(c_i h_i w_i)``: all of them on the grid first, then layer by layer."""
    grid = (refiner.grid, refiner.grid)
    state = dict(refiner.named_parameters())
    mixing = torch.softmax(state["mixing_weights"], 0)
    total = torch.zeros(())
    for i, one in enumerate(maps):
        x = F.interpolate(one[None], size=grid, mode="bilinear", align_corners=False)
        x = F.dropout(x, refiner.dropout, refiner.training)
        total = total + mixing[i] * _bottleneck(x, state, f"bottleneck_layers.{i}.0.")
    return F.normalize(total, dim=1)[0]


def _bottleneck(x: Tensor, state: Mapping[str, Tensor], at: str) -> Tensor:
    def layer(x: Tensor, name: str) -> Tensor:
        weight = state[f"{at}{name}.weight"]
        x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        return F.group_norm(x, 32, state[f"{at}{name}.norm.weight"], state[f"{at}{name}.norm.bias"])

    main = layer(F.relu(layer(F.relu(layer(x, "conv1")), "conv2")), "conv3")
    return F.relu(main + (layer(x, "shortcut") if f"{at}shortcut.weight" in state else x))


def _on_grid(view: Tensor, mask: Tensor, grid: int | None) -> tuple[Tensor, Tensor]:
    """A view and its mask on the grid; an empty mask counts as full."""
    if grid is not None:
        view = F.interpolate(view[None], size=(grid, grid), mode="bilinear", align_corners=False)[0]
    inside = F.interpolate(mask[None, None].float(), size=view.shape[1:], mode="nearest")[0, 0] > 0
    return view, inside if inside.any() else torch.ones_like(inside)


def _inside(index: float, length: int) -> int:
    return int(min(max(index, 0), length - 1))
