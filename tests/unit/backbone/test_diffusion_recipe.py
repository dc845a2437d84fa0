"""Crops cover the image, their mean is the plain mean, the noise is the fixed one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoalign.backbone.diffusion.recipe import CropMean, check_sizes, crop_offsets, crop_places, fixed_noise


@given(st.integers(1, 20), st.integers(1, 12), st.integers(0, 11))
def test_crops_cover_every_pixel_and_stay_inside(size: int, crop: int, overlap: int) -> None:
    if not overlap < crop <= size:
        with pytest.raises(ValueError, match="image_size, crop_px or overlap_px"):
            crop_offsets(size, crop, overlap)
        return
    offsets = crop_offsets(size, crop, overlap)
    assert offsets == sorted(set(offsets))
    assert {p for begin in offsets for p in range(begin, begin + crop)} == set(range(size))


def test_the_mean_of_crops_equals_direct_averaging() -> None:
    generator = torch.Generator().manual_seed(0)
    places = crop_places(2, crop_offsets(15, 8, 1))
    assert len(places) == 8
    crops = torch.randn(8, 3, 8, 8, generator=generator)
    joined = CropMean(3, 2, 15, 8, torch.device("cpu"))
    layers = torch.full((8, 2, 3, 15, 15), torch.nan)
    for layer, (u, y, x), crop in zip(layers, places, crops, strict=True):
        joined.add(u, y, x, crop)
        layer[u, :, y : y + 8, x : x + 8] = crop
    torch.testing.assert_close(joined.mean(), layers.nanmean(0))


def test_crops_of_one_picture_give_it_back() -> None:
    picture = torch.randn(1, 2, 12, 12)
    joined = CropMean(2, 1, 12, 8, torch.device("cpu"))
    for u, y, x in crop_places(1, [0, 4]):
        joined.add(u, y, x, picture[u, :, y : y + 8, x : x + 8])
    torch.testing.assert_close(joined.mean(), picture)


def test_the_first_noise_is_the_released_one_and_more_do_not_change_it() -> None:
    released = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(42))
    noise = fixed_noise(3, 4, 64, 42)
    assert noise.shape == (3, 1, 4, 64, 64)
    assert torch.equal(noise[0], released)
    assert not torch.equal(noise[1], noise[0])


@pytest.mark.parametrize(
    ("sizes", "name"), [((100, 64, 0), "image_size"), ((128, 100, 0), "crop_px"), ((128, 64, 9), "overlap_px")]
)
def test_sizes_off_the_grid_are_refused(sizes: tuple[int, int, int], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a multiple of 64"):
        check_sizes(*sizes, 64)
