"""Frozen and refined descriptors as one: the similarity is their mean, and files bring it back."""

import pytest
import torch

from geoalign import publish
from geoalign.maps import centred
from geoalign.refiner import Aggregation, Blend, Identity, UpsampleHead

CHANNELS, GRID = (6, 10), 8


def blend(**options):
    torch.manual_seed(0)
    return Blend(Aggregation(CHANNELS, GRID, 32, 32), **options).eval()


def some_maps():
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(3, c, side, side, generator=generator) for c, side in zip(CHANNELS, (8, 4), strict=True))


def cosines(descriptors):
    return torch.einsum("ci,cj->ij", descriptors[0].flatten(1), descriptors[1].flatten(1))


@pytest.mark.parametrize("learned", [False, True])
def test_the_similarity_is_the_weighted_mean_of_both(learned):
    both, maps = blend(weight=0.3, learned=learned), some_maps()
    frozen, refined = Identity(CHANNELS, GRID, centre=True)(maps), both.within(maps)
    torch.testing.assert_close(cosines(both(maps)), 0.7 * cosines(frozen) + 0.3 * cosines(refined))
    torch.testing.assert_close(both(maps).norm(dim=1), torch.ones(3, GRID, GRID))
    assert both(maps).is_contiguous(memory_format=torch.channels_last)
    assert ("logit" in both.trained()) == learned


def test_a_learned_weight_is_trained_with_the_refiner():
    both = blend(learned=True)
    cosines(both(some_maps())).square().sum().backward()
    assert both.logit.grad is not None
    assert both.logit.grad.abs() > 0
    assert both.scale is both.within.scale


def test_a_published_blend_comes_back(tmp_path):
    both = blend(weight=0.25, learned=True, groups=[[0, 1]])
    publish.save(both, tmp_path / "shared", backbone="a tiny one")
    back = publish.load(tmp_path / "shared")
    assert back.recipe() == both.recipe()
    torch.testing.assert_close(back(some_maps()), both(some_maps()))


def test_a_blend_of_other_sizes_or_without_a_share_is_refused():
    with pytest.raises(ValueError, match="set them equal"):
        blend(grid=9)
    with pytest.raises(ValueError, match="between 0 and 1, got 1"):
        blend(weight=1.0)


def test_what_looks_at_pictures_stands_around_others_not_within():
    seeing = Aggregation([4], 6, 32, 32)
    seeing.needs_px = (32,)
    for make in (Blend, lambda refiner: UpsampleHead(refiner, 2)):
        with pytest.raises(ValueError, match=r"also looks at frames of \[32\] px; put it around, not within"):
            make(seeing)


@pytest.mark.parametrize("kind", [Identity, Aggregation])
def test_a_centred_refiner_does_not_see_what_a_whole_picture_shares(kind):
    torch.manual_seed(0)
    refiner = kind(CHANNELS, GRID, centre=True).eval()
    maps = some_maps()
    shifted = tuple(m + 5 * torch.randn(3, m.shape[1], 1, 1) for m in maps)
    torch.testing.assert_close(refiner(shifted), refiner(maps), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(kind(CHANNELS, GRID)(shifted), kind(CHANNELS, GRID)(maps), atol=1e-2)
    assert all(m.mean((-2, -1)).abs().max() < 1e-5 for m in centred(maps))
