"""All losses of all kinds of row, forward and backward, beside full maps row by row."""

from __future__ import annotations

import torch

from benchmarks import inputs
from benchmarks import transcription as plain
from benchmarks.timing import Comparison, Contender, assert_same, compare, show
from geoalign.bank import PlainBank
from geoalign.losses import Moment


def run(repeats: int = 5, sizes: inputs.Sizes = inputs.PAPER, images: int = 8) -> list[Comparison]:
    """A pair alone, and the pairs of a clique."""
    loss, scale = inputs.loss(sizes), torch.tensor(2.66)
    single, many = inputs.single_pair(sizes), inputs.clique(images, sizes)
    pair_bank = inputs.bank(4, sizes).requires_grad_()
    views = [view.detach().clone().requires_grad_() for view in pair_bank]
    clique_bank = inputs.bank(2 * images, sizes).requires_grad_()

    def slow() -> None:
        for view in views:
            view.grad = None
        rows = inputs.pair_rows(views, single, loss.terms["dense"].label_noise, sizes.frame_px)
        plain.total_loss(rows, loss, scale).backward()

    def alone() -> None:
        pair_bank.grad = None
        loss(PlainBank(pair_bank, sizes.frame_px), single, Moment(scale)).mean.backward()

    def together() -> None:
        clique_bank.grad = None
        loss(PlainBank(clique_bank, sizes.frame_px), many, Moment(scale)).mean.backward()

    slow()
    alone()
    assert pair_bank.grad is not None
    assert_same("gradient of the losses", torch.stack([v.grad for v in views if v.grad is not None]), pair_bank.grad)
    pairs = images * (images - 1)
    setting = f"{sizes.slots} slots, {sizes.visible:.0%} visible, plain, single, double and self rows"
    contenders = [
        Contender("losses, a pair alone", alone, 1, 30.0, per_turn=3),
        Contender(f"losses, clique of {images}", together, pairs, 30.0),
    ]
    return compare(slow, contenders, unit="pair", setting=setting, repeats=repeats)


if __name__ == "__main__":
    show(run())
