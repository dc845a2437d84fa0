"""Keypoint transfer with the window soft-argmax, beside the full map of every pair."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks import inputs
from benchmarks import transcription as plain
from benchmarks.timing import Comparison, Contender, assert_same, compare, show
from geoalign.bank import PlainBank
from geoalign.matching import Matcher, transfer

PAIRS, VIEWS, POINTS = 32, 16, 15


@torch.no_grad()
def run(repeats: int = 5, sizes: inputs.Sizes = inputs.PAPER, views: int = VIEWS) -> list[Comparison]:
    """One pair alone, and the pairs of an evaluation batch."""
    bank, matcher = inputs.bank(views, sizes), Matcher(frame_px=sizes.frame_px)
    generator = torch.Generator().manual_seed(1)
    src, trg = torch.randint(views, (2, PAIRS), generator=generator)
    xy_px = torch.rand(PAIRS, POINTS, 2, generator=generator) * sizes.frame_px

    def slow() -> Tensor:
        return plain.transfer(bank[src[0]], bank[trg[0]], xy_px[0], matcher)[0]

    def fast(pairs: int) -> Tensor:
        return transfer(PlainBank(bank, sizes.frame_px), src[:pairs], trg[:pairs], xy_px[:pairs], matcher).xy_px[0]

    assert_same("transfer", slow(), fast(PAIRS))
    setting = f"{POINTS} keypoints, {sizes.cells}x{sizes.cells} cells, {sizes.width} channels, window"
    contenders = [
        Contender(f"keypoint transfer, batch of {PAIRS} pairs", lambda: fast(PAIRS), PAIRS, 60.0, per_turn=3),
        Contender("keypoint transfer, one pair alone", lambda: fast(1), per_turn=3),
    ]
    return compare(slow, contenders, unit="pair", setting=setting, repeats=repeats)


if __name__ == "__main__":
    show(run())
