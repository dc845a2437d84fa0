"""Pictures of correspondence: colours mean places, maps fall where they belong."""

import numpy as np
import pytest
from PIL import Image, ImageChops

from geoalign.draw.canvas import colours, side_by_side
from geoalign.draw.field import draw_field, position_colours, sample_field
from geoalign.draw.heatmap import draw_heatmap
from geoalign.draw.pca import crop_frame, shared_colours, stack_pictures
from geoalign.draw.points import draw_matches
from geoalign.draw.tags import place_tags
from geoalign.draw.warp import smooth, warp


def picture(h=60, w=90, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (h, w, 3), dtype=np.uint8))


def own_field(size, grid):
    """Every cell at its own place in an image of ``size``."""
    longest = max(size)
    centre = (np.arange(grid) + 0.5) / grid * longest
    x, y = np.meshgrid(centre - (longest - size[1]) / 2, centre - (longest - size[0]) / 2)
    field = np.stack([x, y], -1)
    field[(y < 0) | (y > size[0]) | (x < 0) | (x > size[1])] = np.nan
    return field


def test_a_field_of_own_places_is_read_as_such():
    found = sample_field(own_field((60, 90), 30), (60, 90))
    y, x = np.mgrid[:60, :90] + 0.5
    assert np.abs(found - np.stack([x, y], -1)).max() <= 1.6  # half a cell at the border


def test_warping_by_own_places_changes_little():
    smooth = picture().resize((6, 4)).resize((90, 60), Image.Resampling.BICUBIC)
    again = warp(smooth, picture(seed=1), own_field((60, 90), 45))
    assert np.asarray(ImageChops.difference(smooth, again)).mean() < 8


def test_cells_that_matched_elsewhere_leave_no_stripe():
    field = own_field((60, 90), 30)
    wrong = field.copy()
    wrong[::7, ::5] = wrong[::7, ::5][:, ::-1]
    inside = ~np.isnan(field[..., 0])
    assert np.abs(smooth(wrong) - field)[inside].max() < 1
    mirrored = (field * [-1, 1] + [90, 0])[:, 3:-3]
    mirrored = np.pad(mirrored, ((0, 0), (3, 3), (0, 0)), constant_values=np.nan)
    assert np.abs(smooth(mirrored) - (field * [-1, 1] + [90, 0]))[inside].max() < 1e-6
    white = Image.new("RGB", (90, 60), "white")
    assert np.asarray(warp(white, white, mirrored)).min() == 255  # no black edge


def test_the_target_stays_where_the_source_has_no_place():
    white, black = Image.new("RGB", (90, 60), "white"), Image.new("RGB", (90, 60))
    out = np.asarray(warp(white, black, own_field((60, 90), 30) + [45, 0]))[..., 0]
    assert (out[:, :40] == 255).all()
    assert (out[:, 50:] == 0).all()
    shown = np.zeros((60, 90), bool)
    shown[:20] = True
    out = np.asarray(warp(white, black, own_field((60, 90), 30), trg_mask=shown))[..., 0]
    assert (out[:20] == 255).all()
    assert (out[20:] == 0).all()


def test_labels_cover_neither_points_nor_labels():
    xy = np.array([[50.0, 50], [62, 50], [50, 62], [62, 62], [98, 3], [2, 97]])
    corners = place_tags(xy, np.tile([20.0, 10.0], (6, 1)), 5, (140, 100))
    boxes = np.concatenate([np.concatenate([xy - 5, xy + 5], 1), np.concatenate([corners, corners + [20, 10]], 1)])
    for i, box in enumerate(boxes[6:], 6):
        sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
        overlaps = np.clip(sides, 0, None).prod(1)
        overlaps[i] = 0
        assert overlaps.max() == 0
    assert corners.min() >= 0
    assert (corners + [20, 10] <= [140, 100]).all()


def test_a_mask_leaves_the_target_dimmed():
    source, target = Image.new("RGB", (90, 60), "red"), Image.new("RGB", (90, 60), "white")
    mask = np.zeros((60, 90), bool)
    mask[:, :45] = True
    out = np.asarray(warp(source, target, own_field((60, 90), 30), mask))
    assert (out[30, 20] == [255, 0, 0]).all()
    assert (out[30, 70] < 100).all()


def test_places_have_their_colours():
    places = np.array([[[0.0, 0.0], [90.0, 0.0]], [[0.0, 60.0], [np.nan, np.nan]]])
    shown = position_colours(places, (60, 90))
    assert (shown[1, 1] == 0).all()
    assert len({tuple(c) for c in shown.reshape(-1, 3)}) == 4
    tinted, legend = draw_field(picture(), picture(50, 40), own_field((60, 90), 30))
    assert (tinted.size, legend.size) == ((90, 60), (40, 50))


def test_shared_colours_do_not_depend_on_the_picture():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 8, 5, 5))
    other[:, 2, 2] = one[:, 1, 1]
    everywhere = np.ones((5, 5), bool)
    a, b = shared_colours([one, other], [everywhere, everywhere])
    assert (a[1, 1] == b[2, 2]).all()
    assert (shared_colours([one], [~np.eye(5, dtype=bool)])[0][np.eye(5, dtype=bool)] == 0).all()
    with pytest.raises(ValueError, match="three channels"):
        shared_colours([one[:2]], [everywhere])


def test_bars_are_cut_off():
    square = np.zeros((4, 4, 3), np.uint8)
    square[1:3] = 255
    assert np.asarray(crop_frame(square, (40, 80))).min() == 255
    assert stack_pictures([picture(), picture()], [square, square], 50).size == (2 * 75 + 8, 108)


def test_a_heat_map_is_brightest_at_its_peak():
    heat = np.full((9, 9), 0.1)
    heat[4, 6] = 0.9
    shown = np.asarray(draw_heatmap(Image.new("RGB", (90, 90)), heat)).sum(-1)
    y, x = np.unravel_index(shown.argmax(), shown.shape)
    assert abs(x - 65) <= 5
    assert abs(y - 45) <= 5
    assert np.asarray(draw_heatmap(picture(), np.zeros((9, 9)))).shape == (60, 90, 3)


def test_points_are_drawn_where_they_lie():
    black = Image.new("RGB", (100, 100))
    canvas = side_by_side([black, black])
    page = np.asarray(draw_matches(black, black, np.array([[50.0, 50.0]]), np.array([[20.0, 80.0]]), [""]))
    for which, xy in ((0, [50, 50]), (1, [20, 80])):
        x, y = canvas.at(which, np.array(xy)).astype(int)
        assert tuple(page[y, x]) == colours(1)[0]
    many = np.random.default_rng(0).uniform(0, 100, (60, 2))
    assert draw_matches(black, black, many, many).size == canvas.page.size


def test_unlikely_matches_are_pale_and_those_not_visible_hollow():
    black, at = Image.new("RGB", (100, 100)), np.array([[50.0, 50.0]])
    sure, pale, hollow = (
        np.asarray(draw_matches(black, black, at, at, [""], np.array([p], np.float32), np.array([seen])))
        for p, seen in ((1.0, True), (0.1, True), (0.1, False))
    )
    place = (210, 420 + 12 + 210)
    assert sure[place].min() < 100 < pale[place].min()
    assert hollow[place].max() == 0
    assert hollow.shape[0] > sure.shape[0], "a legend says what a ring means"
