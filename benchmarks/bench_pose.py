"""Instance matching distances, beside a loop over cells and two arg-maxima of the full map."""

from __future__ import annotations

import torch

from benchmarks import inputs
from benchmarks import transcription as plain
from benchmarks.timing import Comparison, assert_same, compare, show
from geoalign.matching.pose import RELEASED_GRID, masked_distance, mutual_distance


@torch.no_grad()
def run(repeats: int = 5, sizes: inputs.Sizes = inputs.PAPER, released: bool = True) -> list[Comparison]:
    """Masked IMD on the feature grid and on the release's, and the mutual-nearest-neighbour distance."""
    source, target = inputs.bank(2, sizes)
    src_mask, trg_mask = inputs.blob_masks(2)
    return [
        *(
            _masked(source, target, src_mask, trg_mask, grid, repeats, sizes)
            for grid in ((None, RELEASED_GRID) if released else (None,))
        ),
        _mutual(source, target, repeats, sizes),
    ]


def _masked(
    source: torch.Tensor,
    target: torch.Tensor,
    src_mask: torch.Tensor,
    trg_mask: torch.Tensor,
    grid: int | None,
    repeats: int,
    sizes: inputs.Sizes,
) -> Comparison:
    given = (source, target, src_mask, trg_mask, grid)
    assert_same("masked distance", plain.masked_distance(*given), masked_distance(*given))
    share = float(src_mask.float().mean())
    return compare(
        f"masked IMD, {'feature grid' if grid is None else f'up-sampled to {grid}x{grid}'}",
        lambda: plain.masked_distance(*given),
        lambda: masked_distance(*given),
        unit="distance",
        setting=f"{sizes.cells}x{sizes.cells} cells, {sizes.width} channels, objects on {share:.0%} of the frame",
        target=200.0,
        repeats=repeats,
        fast_per_plain=5,
    )


def _mutual(source: torch.Tensor, target: torch.Tensor, repeats: int, sizes: inputs.Sizes) -> Comparison:
    assert_same("mutual distance", plain.mutual_distance(source, target), mutual_distance(source, target))
    return compare(
        "mutual nearest neighbours",
        lambda: plain.mutual_distance(source, target),
        lambda: mutual_distance(source, target),
        unit="distance",
        setting=f"{sizes.cells}x{sizes.cells} cells, {sizes.width} channels",
        target=2.0,
        repeats=2 * repeats,
    )


if __name__ == "__main__":
    show(run())
