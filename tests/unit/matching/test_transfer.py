"""Keypoints from view to view: what is asked for, where it lands, in pixels."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from geoalign.bank import PlainBank
from geoalign.matching import Matcher, transfer
from geoalign.matching.transfer import POINTS

MATCHER = Matcher(readout="argmax", frame_px=80)


def distinct(views=1, side=8, channels=70, seed=0):
    """Views whose cells have orthogonal descriptors: every cell is found again."""
    torch.manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(channels, channels)).Q[: side * side]
    return basis.T.reshape(1, channels, side, side).repeat(views, 1, 1, 1)


@pytest.mark.parametrize("readout", ["argmax", "soft", "window", "kernel"])
def test_a_view_matches_itself(readout):
    bank, xy = distinct(2), torch.tensor([[[5.0, 5.0], [35.0, 75.0], [75.0, 15.0]]])
    found = transfer(
        PlainBank(bank, 80),
        torch.tensor([0]),
        torch.tensor([1]),
        xy,
        replace(MATCHER, readout=readout, temperature=0.01),
    )
    torch.testing.assert_close(found.xy_px, xy, rtol=0, atol=1e-2)
    torch.testing.assert_close(found.score, torch.ones(1, 3))


def test_shifting_the_target_shifts_the_answer():
    upright = distinct()
    bank = torch.cat([upright, upright.roll((2, -1), (-1, -2))])
    xy = torch.tensor([[[25.0, 35.0], [45.0, 55.0]]])
    found = transfer(
        PlainBank(bank, 80), torch.tensor([0]), torch.tensor([1]), xy, replace(MATCHER, readout="window", radius=1)
    )
    torch.testing.assert_close(found.xy_px - xy, torch.tensor([20.0, -10.0]).expand(1, 2, 2), rtol=0, atol=1e-3)


def test_mirroring_both_views_mirrors_the_answer():
    torch.manual_seed(0)
    bank = F.normalize(torch.randn(2, 6, 8, 8), dim=1)
    matcher, xy = Matcher(radius=2, frame_px=80), torch.rand(1, 9, 2) * 80
    ends = (torch.tensor([0]), torch.tensor([1]))
    mirrored = torch.stack([80 - xy[..., 0], xy[..., 1]], -1)
    there = transfer(PlainBank(bank, 80), *ends, xy, matcher).xy_px
    back = transfer(PlainBank(bank.flip(-1), 80), *ends, mirrored, matcher).xy_px
    torch.testing.assert_close(back, torch.stack([80 - there[..., 0], there[..., 1]], -1), rtol=0, atol=1e-3)


def test_only_wanted_slots_are_answered():
    wanted = torch.tensor([[True, False], [False, False]])
    found = transfer(
        PlainBank(distinct(2), 80),
        torch.tensor([0, 1]),
        torch.tensor([1, 0]),
        torch.full((2, 2, 2), 35.0),
        MATCHER,
        wanted,
    )
    assert found.xy_px[0, 0].tolist() == [35.0, 35.0]
    assert found.xy_px.sum() == 70
    assert (found.score > 0).tolist() == wanted.tolist()


def test_nothing_wanted_is_nothing_found():
    found = transfer(
        PlainBank(distinct(), 80),
        torch.tensor([0]),
        torch.tensor([0]),
        torch.rand(1, 3, 2),
        MATCHER,
        torch.zeros(1, 3).bool(),
    )
    assert not found.xy_px.any()
    assert not found.score.any()


def test_many_points_are_answered_in_parts_and_in_order():
    count = POINTS + 5
    bank = distinct(3)
    generator = torch.Generator().manual_seed(0)
    cells = torch.randint(8, (count, 2), generator=generator)
    trg = torch.randint(3, (count,), generator=generator)
    src, xy_px = torch.zeros(count, dtype=torch.long), cells[:, None] * 10.0 + 5
    assert torch.equal(transfer(PlainBank(bank, 80), src, trg, xy_px, MATCHER).xy_px, xy_px)


def test_a_gradient_flows_through_every_part():
    bank = distinct(2).requires_grad_()
    xy = torch.full((POINTS + 5, 1, 2), 33.0)
    ends = (torch.zeros(len(xy), dtype=torch.long), torch.ones(len(xy), dtype=torch.long))
    transfer(PlainBank(bank, 80), *ends, xy, Matcher(radius=2, frame_px=80)).xy_px.sum().backward()
    assert bank.grad[0].any()
    assert bank.grad[1].any()


@pytest.mark.unchecked
@pytest.mark.parametrize(
    "setting", [{"readout": "best"}, {"outside": "ones"}, {"source": "nearest"}, {"temperature": 0.0}, {"radius": -1}]
)
def test_wrong_settings_are_refused(setting):
    with pytest.raises(ValueError, match="matcher"):
        Matcher(**setting)
