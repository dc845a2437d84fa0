"""A second look: crops hold what they are made for, and answers come back into the whole frame."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from geoalign.bank import PlainBank
from geoalign.geometry import Crop, crop_points, letterbox, letterbox_points, look_closer, uncrop_points
from geoalign.matching import Matcher, Twice

POINT = st.tuples(st.floats(0, 840), st.floats(0, 840))


@given(st.lists(POINT, min_size=1, max_size=8))
def test_a_crop_holds_its_points_and_is_no_smaller_than_allowed(points):
    xy = np.array(points)
    x, y, side = Twice().crop(xy, 840)
    assert side >= 0.15 * 840 / 1.08
    assert (xy >= [x - 1e-2, y - 1e-2]).all()
    assert (xy <= [x + side + 1e-2, y + side + 1e-2]).all()


def test_nearly_the_same_points_ask_for_the_same_crop():
    xy = np.array([[200.0, 300.0], [500.0, 420.0]])
    assert Twice().crop(xy, 840) == Twice().crop(xy + 0.4, 840)
    assert Twice().crop(np.zeros((0, 2)), 840) == Crop(0, 0, 840)


@given(POINT, st.floats(-100, 400), st.floats(-100, 400), st.floats(100, 900))
def test_points_go_into_a_crop_and_come_back(point, x, y, side):
    xy, crop = torch.tensor(point), torch.tensor([x, y, side])
    torch.testing.assert_close(uncrop_points(crop_points(xy, crop), crop), xy, rtol=0, atol=1e-2)


def test_a_crop_shows_what_lies_there_in_the_frame():
    spots = Image.new("RGB", (300, 200))
    for at, colour in (((40, 30), (255, 0, 0)), ((250, 150), (0, 255, 0))):
        spots.paste(colour, (at[0] - 6, at[1] - 6, at[0] + 6, at[1] + 6))
    for crop in (Crop(0, 0, 840), Crop(60, 150, 300), Crop(500, 300, 420), Crop(-100, 100, 700)):
        seen = np.asarray(look_closer(spots, crop, 384)).astype(int)
        for at, channel in (((40.0, 30.0), 0), ((250.0, 150.0), 1)):
            framed = letterbox_points(torch.tensor(at), (200, 300))
            x, y = (crop_points(framed, torch.tensor(crop)) * 384 / 840).tolist()
            if 0 <= x < 384 and 0 <= y < 384:
                assert seen[int(y), int(x), channel] > 200, (crop, at)
    whole = np.asarray(look_closer(spots, Crop(0, 0, 840), 384)).astype(int)
    assert abs(whole - np.asarray(letterbox(spots, 384))).mean() < 2


def rows(look):
    ones = torch.ones(1, 2, dtype=torch.bool)
    points = torch.tensor([[[100.0, 100.0], [200.0, 300.0]]])
    at = torch.tensor([0])
    return {"src": at, "trg": at + 1, "src_poses": at[None], "src_xy_px": points, "src_visible": ones, "wanted": ones,
            "partner": torch.arange(2)[None], "masks": None, "extent_px": torch.zeros(2, 4), "look": look}  # fmt: skip


def test_answers_are_those_of_the_crops_in_the_whole_frame_and_first_ones_where_these_cannot_see():
    """Both crops show the same descriptors: a point of the source's is found at the same place of the target's."""
    basis = torch.linalg.qr(torch.randn(420, 420)).Q[:400].T.reshape(1, 420, 20, 20)
    bank = PlainBank(basis.repeat(2, 1, 1, 1))
    src, trg = torch.tensor([[50.0, 50.0, 420.0]]), torch.tensor([[300.0, 200.0, 210.0]])
    first = torch.tensor([[[310.0, 210.0], [20.0, 30.0]]])
    look = {"src_crop": src, "trg_crop": trg, "first_xy_px": first, "first_score": torch.tensor([[0.5, 0.25]])}
    found = Twice()(bank, rows(look), Matcher(radius=2, temperature=0.005)).matches
    torch.testing.assert_close(found.xy_px[0, 0], torch.tensor([325.0, 225.0]), rtol=0, atol=2.0)
    assert found.xy_px[0, 1].tolist() == [20, 30]
    assert found.score[0, 1] == 0.25
    near, far = (Twice(agree=share)(bank, rows(look), Matcher(radius=2, temperature=0.005)) for share in (0.15, 0.05))
    mean = (found.xy_px[0, 0] + first[0, 0]) / 2  # the second answer is 21 of 210 px away
    torch.testing.assert_close(near.matches.xy_px[0], torch.stack([mean, first[0, 1]]))
    assert far.matches.xy_px.tolist() == first.tolist()


def test_wrong_settings_and_a_missing_first_look_are_refused():
    with pytest.raises(ValueError, match="margin"):
        Twice(margin=-1)
    with pytest.raises(ValueError, match="agree"):
        Twice(agree=0.0)
    with pytest.raises(ValueError, match="first one"):
        Twice()(PlainBank(torch.randn(2, 4, 5, 5)), rows(None), Matcher())
