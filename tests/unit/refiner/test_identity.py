"""Zero-shot: the frozen maps themselves, group by group."""

import pytest
import torch
import torch.nn.functional as F

from geoalign.refiner import Identity


def some_maps(views=2):
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(views, c, side, side, generator=generator) for c, side in ((4, 6), (8, 3), (5, 6)))


def test_each_group_has_the_same_share_of_a_unit_descriptor():
    bank = Identity((4, 8, 5), 6, groups=((0, 1), (2,)))(some_maps())
    assert bank.shape == (2, 17, 6, 6)
    torch.testing.assert_close(bank.norm(dim=1), torch.ones(2, 6, 6))
    for part in bank.split([12, 5], dim=1):
        torch.testing.assert_close(part.norm(dim=1), torch.full((2, 6, 6), 0.5**0.5))


def test_groups_hold_their_maps_in_order_and_on_the_grid():
    maps = some_maps()
    bank = Identity((4, 8, 5), 6, groups=((0, 1), (2,)))(maps)
    up = F.interpolate(maps[1], size=(6, 6), mode="bilinear", align_corners=False)
    semantic = F.normalize(torch.cat([maps[0], up], 1), dim=1)
    torch.testing.assert_close(bank, F.normalize(torch.cat([semantic, F.normalize(maps[2], dim=1)], 1), dim=1))


def test_without_groups_every_map_is_one():
    bank = Identity((4, 8, 5), 6)(some_maps())
    for part in bank.split([4, 8, 5], dim=1):
        torch.testing.assert_close(part.norm(dim=1), torch.full((2, 6, 6), 3**-0.5))


def test_scaling_a_map_changes_nothing():
    maps = some_maps()
    refiner = Identity((4, 8, 5), 6)
    torch.testing.assert_close(refiner(maps), refiner((7 * maps[0], maps[1], 0.1 * maps[2])))


def test_descriptors_lie_channels_last_and_nothing_is_trained():
    refiner = Identity((4, 8, 5), 6)
    assert refiner(some_maps()).is_contiguous(memory_format=torch.channels_last)
    assert not list(refiner.parameters())
    assert refiner.width == 17


def test_maps_as_they_are_are_compared_by_dot_products():
    bank = Identity((4, 8, 5), 6, unit=False).bank(some_maps(), 60)
    assert not bank.unit
    centre = torch.tensor([[25.0, 35.0]])  # of the third cell in the fourth row
    point = bank.at(torch.tensor([1]), centre)
    maps = [F.interpolate(m, (6, 6), mode="bilinear", align_corners=False)[1] for m in some_maps()]
    whole = torch.cat(maps) / 17**0.5
    torch.testing.assert_close(point[0], whole[:, 3, 2])
    want = torch.einsum("c,chw->hw", whole[:, 3, 2], whole)
    torch.testing.assert_close(bank.similarity(point, torch.tensor([1]))[0], want)


def test_wrong_maps_and_groups_are_told():
    with pytest.raises(ValueError, match="refiner expects maps"):
        Identity((4, 8), 6)(some_maps())
    with pytest.raises(ValueError, match="each of 3 maps once"):
        Identity((4, 8, 5), 6, groups=((0, 1),))
