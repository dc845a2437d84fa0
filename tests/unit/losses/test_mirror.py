"""Left against right: the loss beside its formula, keypoint by keypoint, and whom it asks."""

import pytest
import torch
import torch.nn.functional as F

from geoalign.bank import PlainBank
from geoalign.losses import MirrorLoss, Moment, WeightedSum
from geoalign.losses.mirror import mirrored
from geoalign.types import KINDS

SIDE, FRAME = 8, 80


def a_batch():
    """Slots 0 and 1 mirror each other, 2 is its own partner; row 1's target lacks slot 1, row 2 shows nothing."""
    generator = torch.Generator().manual_seed(0)
    src, trg = (torch.rand(3, 3, 2, generator=generator) * FRAME for _ in range(2))
    trg_visible = torch.tensor([[True, True, True], [True, False, True], [True, True, True]])
    src_visible = torch.tensor([[True, True, True], [True, True, True], [False, False, False]])
    return {
        "src": torch.tensor([0, 2, 1]),
        "trg": torch.tensor([1, 0, 0]),
        "src_xy_px": src,
        "trg_xy_px": trg,
        "src_visible": src_visible,
        "trg_visible": trg_visible,
        "visible": src_visible & trg_visible,
        "partner": torch.tensor([[1, 0, 2]] * 3),
        "kind": torch.full((3,), KINDS.index("plain")),
        "count": torch.ones(3),
    }


def descriptors(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(3, 6, SIDE, SIDE, generator=generator), dim=1)


def read(view, xy_px):
    """Between four cells, at unit length; outside the outermost centres, theirs."""
    x, y = ((float(c) / 10 - 0.5) for c in xy_px)
    x0, y0 = int(x // 1), int(y // 1)
    total = torch.zeros(view.shape[0])
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        weight = abs(1 - dx - (x - x0)) * abs(1 - dy - (y - y0))
        total = total + weight * view[:, min(max(y0 + dy, 0), SIDE - 1), min(max(x0 + dx, 0), SIDE - 1)]
    return total / total.norm()


def slow(batch, views, temperature):
    rows = []
    for row in range(3):
        each = []
        for slot, partner in enumerate(batch["partner"][row].tolist()):
            if slot == partner or not batch["visible"][row, slot] or not batch["trg_visible"][row, partner]:
                continue
            query = read(views[batch["src"][row]], batch["src_xy_px"][row, slot])
            true, other = (
                query @ read(views[batch["trg"][row]], batch["trg_xy_px"][row, one]) for one in (slot, partner)
            )
            each.append(-torch.log_softmax(torch.stack([true, other]) / temperature, 0)[0])
        rows.append(torch.stack(each).mean() if each else torch.zeros(()))
    return torch.stack(rows)


@pytest.mark.parametrize("temperature", [0.05, 1.0, None])
def test_values_and_gradients(temperature):
    batch, fast, plain = a_batch(), descriptors().requires_grad_(), descriptors().requires_grad_()
    scale = torch.tensor(0.7, requires_grad=True)
    got = MirrorLoss(temperature)(PlainBank(fast, FRAME), batch, Moment(scale))
    expected = slow(batch, plain, temperature or 1 / scale.detach().exp())
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    weight = torch.tensor([1.0, 2.0, 3.0])
    (got * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(fast.grad, plain.grad, rtol=1e-3, atol=1e-5)
    assert (scale.grad is not None) == (temperature is None)


def test_it_asks_of_keypoints_whose_mirror_part_is_in_sight_and_counts_their_rows():
    batch, term = a_batch(), MirrorLoss()
    assert mirrored(batch).tolist() == [[True, True, False], [False, False, False], [False, False, False]]
    assert term.counts(batch).tolist() == [True, False, False]
    total = WeightedSum({"plain": 1.0}, mirror=term)(PlainBank(descriptors(), FRAME), batch)
    assert float(total.weight) == 1.0
    torch.testing.assert_close(total.mean, slow(batch, descriptors(), 0.05)[0], rtol=1e-4, atol=0)


def test_nothing_to_ask_is_zero_with_a_gradient():
    batch, views = a_batch(), descriptors().requires_grad_()
    batch["partner"] = torch.arange(3).repeat(3, 1)
    loss = MirrorLoss()(PlainBank(views, FRAME), batch)
    loss.sum().backward()
    assert not loss.any()
    assert not views.grad.any()


def test_a_step_along_the_gradient_tells_left_from_right():
    """Both sides look alike at first; after a few steps the true one is ahead."""
    batch, views = a_batch(), descriptors()
    bank = lambda v: PlainBank(F.normalize(v, dim=1), FRAME)  # noqa: E731
    term = MirrorLoss()
    before = term(bank(views), batch)[0]
    for _ in range(20):
        views.requires_grad_()
        gradient = torch.autograd.grad(term(bank(views), batch).sum(), views)[0]
        views = (views - 0.5 * gradient).detach()
    assert term(bank(views), batch)[0] < 0.2 * before


@pytest.mark.unchecked
def test_a_temperature_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"above 0, or null"):
        MirrorLoss(temperature=0.0)
