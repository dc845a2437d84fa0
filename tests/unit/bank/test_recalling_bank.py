"""A question asked twice is computed once, and the answer is the bank's own."""

import torch
import torch.nn.functional as F

from geoalign.bank import PlainBank, RecallingBank


class Counting(PlainBank):
    reads = 0

    def read(self, *question):
        Counting.reads += 1
        return super().read(*question)


def test_what_is_asked_twice_is_read_once_and_then_forgotten():
    own = Counting(F.normalize(torch.randn(3, 6, 5, 5), dim=1), 50)
    bank = RecallingBank(own, most_bytes=2 * 4 * 5 * 5 * 4)
    view, xy, trg = torch.tensor([0, 1, 1, 2]), torch.rand(4, 2) * 50, torch.tensor([2, 2, 0, 1])
    first, before = bank.read(view, xy, trg), Counting.reads
    assert bank.read(view, xy.clone(), trg) is first
    assert Counting.reads == before
    torch.testing.assert_close(bank.read(view, xy, trg).similarity, own.read(view, xy, trg).similarity)
    for other in ((view, xy + 1, trg), (view, xy, trg.flip(0)), (view[:3], xy[:3], trg[:3]), (view, xy, trg, "floor")):
        torch.testing.assert_close(bank.read(*other).points, own.read(*other).points)
    assert len(bank._kept) == 2, "the last that memory is given for"
    assert (bank.grid, bank.frame_px, bank.finer, bank.unit, len(bank)) == ((5, 5), 50, 1, True, 3)
    assert torch.equal(bank.hide(torch.zeros(3, 5, 5, dtype=torch.bool)).cells(1), torch.zeros(6, 5, 5))
    assert len(bank.join([bank, own])) == 9


def test_a_graph_is_never_recalled():
    bank = RecallingBank(PlainBank(torch.randn(1, 6, 5, 5, requires_grad=True), 50))
    at = torch.tensor([0])
    one, two = (bank.read(at, torch.rand(1, 2) * 0 + 20, at) for _ in range(2))
    assert one is not two
