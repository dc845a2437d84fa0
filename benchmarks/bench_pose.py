"""Instance matching distances, beside a loop over cells and two arg-maxima of the full map."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks import inputs
from benchmarks import transcription as plain
from benchmarks.timing import Comparison, Contender, assert_same, compare, show
from geoalign.matching.pose import RELEASED_GRID, masked_distance, mutual_distance


@torch.no_grad()
def run(repeats: int = 5, sizes: inputs.Sizes = inputs.PAPER, released: bool = True) -> list[Comparison]:
    """Mutual nearest neighbours, then masked IMD on the feature grid and on the release's.

    The transcription is given views as :func:`plain.refine` leaves them, ``(c h w)`` in memory; on the feature grid
    also as geoalign's refiners do, cell by cell, where its loop reads memory in order.
    """
    source, target = inputs.bank(2, sizes)
    masks = inputs.blob_masks(2)
    found = mutual(source, target, repeats, sizes)
    found += masked((source, target, masks[0], masks[1], None), repeats, "feature grid")
    found += masked((source, target, masks[0], masks[1], None), repeats, "transcription on cells in order", target=None)
    if released:
        found += masked(
            (source, target, masks[0], masks[1], RELEASED_GRID), repeats, f"{RELEASED_GRID}x{RELEASED_GRID} cells"
        )
    return found


Given = tuple[Tensor, Tensor, Tensor, Tensor, int | None]


def masked(given: Given, repeats: int, name: str, target: float | None = 200.0) -> list[Comparison]:
    """The masked distance; without a ``target`` the transcription too is given cells in order."""
    source = given[0]
    slow = given if target is None else (source.contiguous(), given[1].contiguous(), *given[2:])
    assert_same("masked distance", plain.masked_distance(*slow), masked_distance(*given))
    share = float(given[2].float().mean())
    return compare(
        lambda: plain.masked_distance(*slow),
        [Contender(f"masked IMD, {name}", lambda: masked_distance(*given), 1, target, per_turn=5)],
        unit="distance",
        setting=f"{source.shape[-1]}x{source.shape[-1]} cells, {len(source)} channels, objects on {share:.0%}",
        repeats=repeats,
    )


def mutual(source: Tensor, target: Tensor, repeats: int, sizes: inputs.Sizes) -> list[Comparison]:
    """The mask-free distance of two views."""
    assert_same("mutual distance", plain.mutual_distance(source, target), mutual_distance(source, target))
    return compare(
        lambda: plain.mutual_distance(source, target),
        [Contender("mutual nearest neighbours", lambda: mutual_distance(source, target), 1, 2.0)],
        unit="distance",
        setting=f"{sizes.cells}x{sizes.cells} cells, {sizes.width} channels",
        repeats=2 * repeats,
    )


if __name__ == "__main__":
    show(run())
