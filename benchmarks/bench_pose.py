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
    """Masked IMD on the feature grid and on the release's, and the mutual-nearest-neighbour distance."""
    source, target = inputs.bank(2, sizes)
    src_mask, trg_mask = inputs.blob_masks(2)
    found = _mutual(source, target, repeats, sizes)
    for grid in (None, RELEASED_GRID) if released else (None,):
        found += _masked((source, target, src_mask, trg_mask, grid), repeats, sizes)
    return found


Given = tuple[Tensor, Tensor, Tensor, Tensor, int | None]


def _masked(given: Given, repeats: int, sizes: inputs.Sizes) -> list[Comparison]:
    assert_same("masked distance", plain.masked_distance(*given), masked_distance(*given))
    share, grid = float(given[2].float().mean()), given[4]
    name = "feature grid" if grid is None else f"up-sampled to {grid}x{grid}"
    return compare(
        lambda: plain.masked_distance(*given),
        [Contender(f"masked IMD, {name}", lambda: masked_distance(*given), 1, 200.0, per_turn=5)],
        unit="distance",
        setting=f"{sizes.cells}x{sizes.cells} cells, {sizes.width} channels, objects on {share:.0%} of the frame",
        repeats=repeats,
    )


def _mutual(source: Tensor, target: Tensor, repeats: int, sizes: inputs.Sizes) -> list[Comparison]:
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
