"""A picture fills its frame in one of three ways: pixels, points, boxes, masks, sizes and store keys follow."""

import pickle

import numpy as np
import pytest
import torch
from helpers.spair_tree import write_tree
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from geoalign.data.batch.collate import Collate, Sample
from geoalign.data.batch.masks import dataset_mask
from geoalign.data.batch.views import PixelLoader, ViewRef
from geoalign.data.datamodule import PairDataModule
from geoalign.data.framed import Framed
from geoalign.data.readers.spair import SPair71k
from geoalign.data.records import DataError, framed_size_px, pck_size_px
from geoalign.geometry import (
    FRAMINGS,
    Crop,
    content_cells,
    crop_points,
    letterbox,
    letterbox_points,
    look_closer,
    picture_extent,
    placement,
    unletterbox_points,
)
from geoalign.passes.features import store_key

SPOTS = ((31.0, 12.0), (150.0, 85.0), (220.0, 40.0))
sides = st.integers(1, 3000)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("spair")
    write_tree(root)
    return SPair71k(root)


@pytest.mark.parametrize("framing", FRAMINGS)
@given(h=sides, w=sides, x=st.floats(0, 1), y=st.floats(0, 1))
def test_points_of_any_picture_come_back(framing, h, w, x, y):
    xy = torch.tensor([[x * w, y * h]], dtype=torch.float64)
    there = letterbox_points(xy, (h, w), 840, framing)
    assert (unletterbox_points(there, (h, w), 840, framing) - xy).abs().max() <= 1e-4
    assert there.min() >= -0.5
    assert there.max() <= 840.5


@pytest.mark.parametrize("framing", FRAMINGS)
def test_the_picture_lies_where_its_points_do(framing):
    """Bright discs are found, by their centre of mass, where the points of the picture are put."""
    size = (120, 240)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    for spot in SPOTS:
        disc = Image.fromarray((255 * (np.hypot(x - spot[0], y - spot[1]) < 5)).astype(np.uint8))
        square = np.asarray(letterbox(disc, 480, framing=framing), np.float64)
        assert square.shape == (480, 480)
        at = (np.mgrid[:480, :480] + 0.5) * square
        found = np.array([at[1].sum(), at[0].sum()]) / square.sum()
        np.testing.assert_allclose(found, letterbox_points(np.array(spot), size, 480, framing), atol=0.3)
        crop = Crop(*(np.array(letterbox_points(np.array(spot), size, 480, framing)) - 60).tolist(), 120.0)
        closer = np.asarray(look_closer(disc, crop, 240, 480, framing), np.float64)
        at = (np.mgrid[:240, :240] + 0.5) * closer
        middle = np.array([at[1].sum(), at[0].sum()]) / closer.sum()
        there = crop_points(letterbox_points(np.array(spot), size, 480, framing), np.array(crop), 480) / 2
        np.testing.assert_allclose(middle, there, atol=0.3)


def test_extent_and_cells_name_the_bars():
    assert picture_extent((50, 100), frame=100, framing="squash") == (0, 0, 100, 100)
    assert picture_extent((50, 100), frame=100, framing="pad") == (0, 0, 100, 50)
    assert content_cells((50, 100), 4, "squash").all()
    assert content_cells((50, 100), 4, "pad").int().tolist() == [[1] * 4, [1] * 4, [0] * 4, [0] * 4]
    assert content_cells((100, 50), 4, "pad").int().tolist() == [[1, 1, 0, 0]] * 4


@pytest.mark.parametrize("framing", FRAMINGS)
def test_the_size_that_pck_is_relative_to_follows_the_box(source, framing):
    image = source[0].trg._replace(framing=framing, size=(200, 400), box_px=(10.0, 20.0, 110.0, 80.0))
    box = letterbox_points(np.array(image.box_px).reshape(2, 2), image.size, 840, framing)
    assert framed_size_px(image, "box", 840) == pytest.approx((box[1] - box[0]).max())
    expected = {"letterbox": 210.0, "pad": 210.0, "squash": 252.0}  # squashed, the box is taller than wide
    assert framed_size_px(image, "box", 840) == pytest.approx(expected[framing])
    assert framed_size_px(image, "image", 840) == pytest.approx(840)
    assert pck_size_px(image, "box") == 100


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_batch_follows_its_framing(source, framing):
    data = PairDataModule(test={"mini": source}, frame=framing)
    own = pickle.loads(pickle.dumps(data.test_sources["mini"]))
    assert len(own) == len(source)
    assert own.fingerprint() == source.fingerprint()
    assert own.name == source.name
    pair = own[0]
    batch = Collate(own, PixelLoader((96,)))([Sample(pair)])
    seen = pair.trg.visible
    want = letterbox_points(source[0].trg.xy_px, pair.trg.size, 840, framing)[seen]
    np.testing.assert_allclose(batch["trg_xy_px"][0].numpy()[seen], want, rtol=1e-5)
    extent = picture_extent(pair.src.size, framing=framing)
    np.testing.assert_allclose(batch["views"]["extent_px"][0].numpy(), extent, rtol=1e-6)
    assert batch["size_px"][0].item() == pytest.approx(framed_size_px(pair.trg, "box", 840))
    place, mask = placement(pair.src.size, 60, framing), dataset_mask(pair.src, 60)
    outside = np.ones((60, 60), bool)
    outside[place.dy : place.dy + place.h, place.dx : place.dx + place.w] = False
    assert not mask[outside].any()


def test_a_store_tells_framings_apart(source):
    image = source[0].src
    keys = {store_key("f" * 16, ViewRef(image._replace(framing=framing))) for framing in FRAMINGS}
    assert len(keys) == 3
    assert store_key("f" * 16, ViewRef(image)) in keys


def test_slices_and_images_are_framed(source):
    own = Framed(source, "pad")
    assert {pair.src.framing for pair in own[:2]} == {image.framing for image in own.images} == {"pad"}


@pytest.mark.unchecked
def test_another_word_is_refused(source):
    with pytest.raises(DataError, match=r"data\.frame is one of letterbox, squash, pad, got 'stretch'"):
        PairDataModule(test={"mini": source}, frame="stretch")
    with pytest.raises(ValueError, match="an image is framed by letterbox, squash, pad, got 'crop'"):
        placement((3, 4), 28, "crop")
