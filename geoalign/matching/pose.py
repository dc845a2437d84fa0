"""Instance matching distance (IMD), the choice of a pose by it, and matching under the chosen pose (paper §4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geoalign.bank import Bank, full_precision
from geoalign.geometry import Pose, pose_points
from geoalign.matching.transfer import Matcher, transfer
from geoalign.types import Matches

Distance = Literal["masked", "mutual"]
RELEASED_GRID = 64
"""The release up-samples descriptors and masks to 64×64 before the masked distance."""
BLOCK = 1024
"""Source cells compared at once: 15 MB of similarities against 60×60 cells."""
SMALL_BLOCK = 512
"""The same where maxima are taken both ways: they are read from cache."""


def masked_distance(
    source: Float[Tensor, "c h w"],
    target: Float[Tensor, "c h w"],
    src_mask: Bool[Tensor, "m m"],
    trg_mask: Bool[Tensor, "m m"],
    grid: int | None = None,
) -> Float[Tensor, ""]:
    """Mean Euclidean distance from each source cell in its mask to its nearest target cell in its mask.

    ``grid=None`` (clean) works on the feature grid; ``grid=64`` is the release. An empty mask counts as
    a full one: without a foreground the whole image is compared.
    """
    a, b = _masked_cells(source, src_mask, grid), _masked_cells(target, trg_mask, grid)
    return _nearest(a, b).mean()


def mutual_distance(source: Float[Tensor, "c h w"], target: Float[Tensor, "c h w"]) -> Float[Tensor, ""]:
    """Mean Euclidean distance over pairs of cells that are each other's nearest (no mask needed)."""
    a, b = _cells(source), _cells(target)
    nearest, value, best = _nearest_both_ways(a.detach(), b.detach(), target.shape[-1])
    claims = torch.nonzero(value == best[nearest]).squeeze(1)
    # of equal cells (a black border) the first counts, as with argmax both ways
    first = torch.full_like(nearest, len(a)).scatter_reduce(0, nearest[claims], claims, "amin")
    mutual = claims[first[nearest[claims]] == claims]
    return (a[mutual] - b[nearest[mutual]]).norm(dim=-1).mean()


def pose_distances(
    bank: Bank,
    src_poses: Int[Tensor, "b p"],
    trg: Int[Tensor, "b"],
    masks: Bool[Tensor, "u m m"] | None = None,
    kind: Distance = "masked",
    grid: int | None = None,
) -> Float[Tensor, "b p"]:
    """IMD of every pose of every row's source to its target; a view pair met twice is computed once."""
    if kind == "masked" and masks is None:
        raise ValueError("masked distance needs masks; give the dataset masks or set alignment.distance=mutual")
    pairs = torch.stack([src_poses, trg.unsqueeze(1).expand_as(src_poses)], dim=-1).reshape(-1, 2)
    unique, where = torch.unique(pairs, dim=0, return_inverse=True)
    if kind == "masked" and masks is not None:
        values = _masked_distances(bank, unique, masks, grid)
    else:
        values = torch.stack([mutual_distance(bank.cells(s), bank.cells(t)) for s, t in unique.tolist()])
    return values[where].view_as(src_poses)


def choose_pose(distance: Float[Tensor, "b p"]) -> Int[Tensor, "b"]:
    """Pose of least IMD per row; the earlier pose wins a tie. Never sees ground truth."""
    return distance.argmin(dim=1)


def transfer_posed(
    bank: Bank,
    src_poses: Int[Tensor, "b p"],
    trg: Int[Tensor, "b"],
    src_xy_px: Float[Tensor, "b n 2"],
    src_visible: Bool[Tensor, "b n"],
    partner: Int[Tensor, "b n"],
    choice: Int[Tensor, "b"],
    poses: Sequence[Pose],
    matcher: Matcher,
    wanted: Bool[Tensor, "b n"] | None = None,
) -> Matches:
    """Match each row's wanted slots (all that the source shows) from its chosen pose (``poses[0]`` is upright).

    Under a flip slot i is read at its mirror partner's moved point; where the partner is not visible in
    the source the upright prediction stays (docs/protocol.md#pose-alignment).
    """
    posed_xy, posed = posed_keypoints(src_xy_px, src_visible, partner, choice, poses, matcher.frame_px)
    rows = torch.arange(len(choice), device=choice.device)
    wanted = src_visible if wanted is None else wanted & src_visible
    upright = transfer(bank, src_poses[:, 0], trg, src_xy_px, matcher, wanted & ~posed)
    chosen = transfer(bank, src_poses[rows, choice], trg, posed_xy, matcher, wanted & posed)
    pick = posed.unsqueeze(-1)
    return Matches(torch.where(pick, chosen.xy_px, upright.xy_px), torch.where(posed, chosen.score, upright.score))


def posed_keypoints(
    src_xy_px: Float[Tensor, "b n 2"],
    src_visible: Bool[Tensor, "b n"],
    partner: Int[Tensor, "b n"],
    choice: Int[Tensor, "b"],
    poses: Sequence[Pose],
    frame_px: float,
) -> tuple[Float[Tensor, "b n 2"], Bool[Tensor, "b n"]]:
    """Where each slot is read in its row's chosen pose, and whether it can be read there."""
    xy, readable = src_xy_px.clone(), torch.zeros_like(src_visible)
    own = torch.arange(partner.shape[1], device=partner.device)
    for p, pose in enumerate(poses):
        rows = choice == p
        slots = partner[rows] if pose.flip else own.expand_as(partner[rows])
        xy[rows] = pose_points(src_xy_px[rows].gather(1, slots.unsqueeze(-1).expand(-1, -1, 2)), pose, frame_px)
        readable[rows] = src_visible[rows].gather(1, slots)
    return xy, readable


def _cells(view: Tensor) -> Tensor:
    """Descriptors ``(cells c)`` in float32; a view of the memory where that lies channels-last."""
    return view.float().flatten(1).T


def _masked_cells(view: Tensor, mask: Tensor, grid: int | None) -> Tensor:
    """Descriptors ``(cells c)`` inside the mask; masks are read at cell centres (nearest)."""
    size = view.shape[-2:] if grid is None else (grid, grid)
    inside = F.interpolate(mask[None, None].float(), size=size, mode="nearest")[0, 0] > 0
    inside = inside if inside.any() else torch.ones_like(inside)
    return _cells(view)[inside.flatten()] if grid is None else _resampled(view, inside)


def _resampled(view: Tensor, inside: Tensor) -> Tensor:
    """Descriptors ``(k c)`` that bilinear resampling to the size of ``inside`` gives there, and only there."""
    y, x = torch.nonzero(inside, as_tuple=True)
    (top, bottom, low), (left, right, near) = (
        _between(at, old, new) for at, old, new in zip((y, x), view.shape[-2:], inside.shape, strict=True)
    )
    w = view.shape[-1]
    corners = torch.stack([top * w + left, top * w + right, bottom * w + left, bottom * w + right], dim=1)
    weight = torch.stack([(1 - low) * (1 - near), (1 - low) * near, low * (1 - near), low * near], dim=1)
    return F.embedding_bag(corners, _cells(view).contiguous(), per_sample_weights=weight, mode="sum")


def _between(at: Tensor, old: int, new: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two old cells on either side of new ones, and how far towards the second (``align_corners=False``)."""
    place = ((at + 0.5) * (old / new) - 0.5).clamp(min=0)
    first = place.long()
    return first, (first + 1).clamp(max=old - 1), place - first


def _nearest_both_ways(a: Tensor, b: Tensor, w: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first nearest of ``b`` (cells in rows of ``w``) for each of ``a``, how similar; the same for ``b`` at best.

    Maxima are found as values, row of cells by row of cells: an arg-max of the whole takes ten times as long, and down
    the columns as long as half the product.
    """
    nearest, value = torch.empty(len(a), dtype=torch.long, device=a.device), a.new_empty(len(a))
    best, similarity = a.new_full((len(b),), -torch.inf), a.new_empty(min(SMALL_BLOCK, len(a)), len(b))
    for start in range(0, len(a), SMALL_BLOCK):
        some = slice(start, start + SMALL_BLOCK)
        block = similarity[: len(a[some])]
        with full_precision(a):
            torch.mm(a[some], b.T, out=block)
        by_row = block.unflatten(1, (-1, w))
        row = by_row.amax(2).argmax(1)
        inside = by_row[torch.arange(len(row), device=a.device), row]
        value[some], column = inside.max(1)
        nearest[some] = row * w + column
        torch.maximum(best, block.amax(0), out=best)
    return nearest, value, best


def _nearest(a: Tensor, b: Tensor) -> Tensor:
    """Distance of each row of ``a`` to the nearest of ``b``: a product to find it, then exactly."""
    offset, columns = b.square().sum(-1) / -2, b.T
    with full_precision(a):
        nearest = torch.cat([torch.addmm(offset, part, columns).argmax(1) for part in a.split(BLOCK)])
    return (a - b[nearest]).norm(dim=-1)


def _masked_distances(bank: Bank, pairs: Tensor, masks: Tensor, grid: int | None) -> Tensor:
    """Each view's cells are gathered once."""
    cells = {v: _masked_cells(bank.cells(v), masks[v], grid) for v in torch.unique(pairs).tolist()}
    return torch.stack([_nearest(cells[s], cells[t]).mean() for s, t in pairs.tolist()])
