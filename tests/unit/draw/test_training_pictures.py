"""Panels and features as pictures: every verdict has its colour where the point is."""

import numpy as np
import pytest
from PIL import Image, ImageColor

from geoalign.draw import sides
from geoalign.draw.features import FeatureRow, save_features
from geoalign.draw.matches import COLOURS, EDGE, SIDE, Panel, draw_panel, save_panels
from geoalign.draw.sides import draw_sides
from geoalign.symmetry import Symmetry

GREY = np.full((140, 140, 3), 128, np.uint8)


def _panel(verdict, predicted=(100.0, 70.0), true=(40.0, 30.0)):
    return Panel(GREY, GREY, np.array([[20.0, 20.0]]), np.array([predicted]), np.array([true]), [verdict], "title", 140)


def _near(pixel, colour):
    return np.abs(np.array(pixel, int) - ImageColor.getrgb(colour)).max() < 60


@pytest.mark.parametrize("verdict", COLOURS)
def test_a_match_ends_where_it_was_predicted_in_its_colour(verdict):
    picture = draw_panel(_panel(verdict))
    assert picture.size == (2 * SIDE, SIDE - 2 * EDGE)
    scale = (SIDE - 2 * EDGE) / 140
    assert _near(picture.getpixel((round(EDGE + 20 * scale), round(20 * scale))), COLOURS[verdict])
    assert _near(picture.getpixel((round(SIDE + EDGE + 100 * scale), round(70 * scale))), COLOURS[verdict])


def test_only_misses_have_a_ring_at_the_truth():
    ring = round(SIDE + 40 * SIDE / 140 + 4), round(30 * SIDE / 140)
    assert draw_panel(_panel("correct")).getpixel(ring)[0] < 200
    assert min(draw_panel(_panel("near")).getpixel(ring)) > 200


def test_points_lie_in_pictures_without_bars():
    wide, tall = np.full((70, 140, 3), 128, np.uint8), np.full((280, 140, 3), 128, np.uint8)
    at = np.array([[70.0, 70.0]])  # the middle of any frame of 140 px
    picture = draw_panel(Panel(wide, tall, at, at, at, ["correct"], frame_px=140))
    assert picture.size == (2 * SIDE, SIDE - 2 * EDGE)
    for centre in (SIDE / 2, 3 * SIDE / 2):
        assert _near(picture.getpixel((round(centre), SIDE // 2 - EDGE)), COLOURS["correct"])
    assert picture.getpixel((SIDE // 2, 10)) == (255, 255, 255), "above a wide picture there is paper"
    low = Panel(wide, wide, at, at, at, ["correct"], frame_px=140)
    assert draw_panel(low).size == (2 * SIDE, SIDE // 2 - EDGE), "a row is no higher than its pictures"


def test_pages_hold_a_cell_per_panel(tmp_path):
    panels = [_panel("correct"), _panel("swapped")]
    save_panels({"before": panels, "after": panels[:1]}, tmp_path / "new" / "panels.png")
    wide, high = Image.open(tmp_path / "new" / "panels.png").size
    assert wide > 4 * SIDE
    assert high > 2 * SIDE


def test_sides_have_their_colour_and_what_is_wrong_a_rim():
    panel = Panel(
        GREY, GREY, np.array([[20.0, 20.0]]), np.array([[100.0, 70.0]]), np.array([[100.0, 130.0]]), ["swapped"]
    )
    panel = panel._replace(frame_px=140)
    good = panel._replace(verdicts=["correct"])
    page = draw_sides({"before": [(panel, [1])], "after": [(good, [2])]})
    scale, top = (sides.SIDE - 2 * sides.EDGE) / 140, sides.LINE
    for column, side in enumerate((1, 2)):
        left = column * (2 * sides.SIDE + sides.GAP) + sides.EDGE
        x, y = left + sides.SIDE + 100 * scale, top + 70 * scale
        assert _near(page.getpixel((round(x + 5), round(y))), sides.SIDES[side][1])
        assert _near(page.getpixel((round(x), round(y - 7.5))), sides.WRONG) == (column == 0)
        assert _near(page.getpixel((round(left + 20 * scale + 5), round(top + 20 * scale))), sides.SIDES[side][1])
        line = page.getpixel((round(x), round(top + 110 * scale)))
        assert (min(line) > 200) == (column == 0), "a line leads from what is wrong to the truth"


def test_features_are_one_line_per_pair(tmp_path):
    maps = {name: np.random.default_rng(0).random((2, 5, 5, 3)) for name in ("frozen", "refined")}
    row = FeatureRow(GREY, GREY, maps, (20.0, 30.0), (70.0, 80.0), np.eye(5))
    sizes = []
    for count in (1, 3):
        save_features([row] * count, tmp_path / "f.png")
        sizes.append(Image.open(tmp_path / "f.png").size)
    assert sizes[0][0] == sizes[1][0]
    assert sizes[1][1] - sizes[0][1] == 2 * (sizes[0][1] - 22)


def test_related_slots_are_the_other_instances_of_a_part():
    related = Symmetry(("a", "b", "c", "d"), ((0, 1),), ((1, 2),)).related(4)
    assert sorted(zip(*(x.tolist() for x in np.nonzero(related)), strict=True)) == [(0, 1), (1, 0), (1, 2), (2, 1)]
