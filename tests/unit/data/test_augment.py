"""Pixels, points, visibility, boxes, masks and slots move together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoalign.data.batch.augment import View, pose_box, pose_slots, pose_view
from geoalign.geometry import FLIP, UPRIGHT, Pose
from geoalign.symmetry import Symmetry

SIDE = 48
SLOTS = 6
PARTNER = Symmetry(tuple("abcdef"), ((0, 1), (3, 5)), ()).permutation(SLOTS)
right_angles = st.sampled_from([0.0, 90.0, 180.0, 270.0])
any_pose = st.builds(Pose, st.booleans(), st.one_of(right_angles, st.floats(0, 360, exclude_max=True)))
fast = settings(max_examples=50)


@st.composite
def views(draw: st.DrawFn) -> View:
    """A view with random pixels and mask, points inside its box, and zeroed invisible points."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x1, y1 = rng.uniform(0, SIDE / 2, 2)
    x2, y2 = rng.uniform(SIDE / 2, SIDE, 2)
    xy = rng.uniform([x1, y1], [x2, y2], (SLOTS, 2)).astype(np.float32)
    visible = rng.random(SLOTS) < 0.7
    pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return View(pixels, xy * visible[:, None], visible, (x1, y1, x2, y2), rng.random((24, 24)) < 0.5)


def assert_same(a: View, b: View) -> None:
    assert np.array_equal(a.pixels, b.pixels)
    assert a.mask is not None
    assert np.array_equal(a.mask, b.mask)
    assert np.array_equal(a.visible, b.visible)
    np.testing.assert_allclose(a.xy_px, b.xy_px, atol=1e-4)
    np.testing.assert_allclose(a.box_px, b.box_px, atol=1e-9)


@fast
@given(views())
def test_flip_twice_is_the_identity(view: View) -> None:
    assert_same(pose_view(pose_view(view, FLIP, PARTNER), FLIP, PARTNER), view)


@fast
@given(views(), st.booleans())
def test_four_quarter_turns_are_the_identity(view: View, flipped: bool) -> None:
    turned = start = pose_view(view, Pose(flipped), PARTNER)
    for _ in range(4):
        turned = pose_view(turned, Pose(False, 90.0))
    assert_same(turned, start)


@fast
@given(views())
def test_flip_commutes_with_a_half_turn(view: View) -> None:
    half = Pose(False, 180.0)
    assert_same(pose_view(pose_view(view, FLIP, PARTNER), half), pose_view(pose_view(view, half), FLIP, PARTNER))


@fast
@given(views())
def test_upright_changes_nothing(view: View) -> None:
    assert_same(pose_view(view, UPRIGHT), view)


@fast
@given(any_pose, st.integers(0, SLOTS - 1), st.floats(2, SIDE - 2), st.floats(2, SIDE - 2))
def test_a_blob_painted_at_a_point_lands_at_the_moved_point(pose: Pose, slot: int, x: float, y: float) -> None:
    """Pixels, points, visibility and labels agree, for arbitrary angles within 1.5 px."""
    pixels = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    pixels[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2] = 255
    xy, visible = np.zeros((SLOTS, 2), np.float32), np.zeros(SLOTS, bool)
    xy[slot], visible[slot] = (int(x) + 0.5, int(y) + 0.5), True
    posed = pose_view(View(pixels, xy, visible, (0, 0, SIDE, SIDE), pixels[..., 0] > 0), pose, PARTNER)
    new_slot = PARTNER[slot] if pose.flip else slot
    if not posed.visible.any():
        assert pose.degrees % 90
        return
    assert posed.visible.tolist() == (np.arange(SLOTS) == new_slot).tolist()
    column, row = posed.xy_px[new_slot]
    assert posed.mask is not None
    for found in (posed.pixels[..., 0] > 127, posed.mask):
        ys, xs = np.nonzero(found)
        if 2 <= column <= SIDE - 2 and 2 <= row <= SIDE - 2:
            assert abs(xs.mean() + 0.5 - column) <= 1.5
            assert abs(ys.mean() + 0.5 - row) <= 1.5


@fast
@given(views(), any_pose)
def test_boxes_hold_the_moved_points_and_stay_in_the_square(view: View, pose: Pose) -> None:
    posed = pose_view(view, pose, PARTNER)
    x1, y1, x2, y2 = posed.box_px
    assert min(posed.box_px) >= -1e-9
    assert max(posed.box_px) <= SIDE + 1e-9
    inside = posed.xy_px[posed.visible]
    assert (inside >= np.array([x1, y1]) - 1e-4).all()
    assert (inside <= np.array([x2, y2]) + 1e-4).all()


@fast
@given(views(), any_pose)
def test_points_that_leave_the_square_become_invisible_and_zero(view: View, pose: Pose) -> None:
    posed = pose_view(view, pose, PARTNER)
    assert posed.visible.sum() <= view.visible.sum()
    if pose.degrees % 90 == 0:
        assert posed.visible.sum() == view.visible.sum()
    seen = posed.xy_px[posed.visible]
    assert ((seen >= 0) & (seen <= SIDE)).all()
    assert (posed.xy_px[~posed.visible] == 0).all()


def test_a_corner_point_leaves_on_an_eighth_turn() -> None:
    xy, visible = np.array([[1.0, 1.0], [24.0, 24.0]], np.float32), np.array([True, True])
    moved, seen = pose_slots(xy, visible, Pose(False, 45.0), None, SIDE)
    assert seen.tolist() == [False, True]
    assert moved[0].tolist() == [0.0, 0.0]
    assert visible.all(), "the input is left alone"


def test_right_angles_keep_points_annotated_just_outside() -> None:
    xy, visible = np.array([[-2.0, 5.0]], np.float32), np.array([True])
    moved, seen = pose_slots(xy, visible, Pose(False, 90.0), None, SIDE)
    assert seen.all()
    assert moved.tolist() == [[5.0, SIDE + 2.0]]


def test_points_may_live_in_another_frame_than_the_pixels() -> None:
    xy, visible = np.array([[10.0, 20.0]], np.float32), np.array([True])
    view = View(np.zeros((24, 24, 3), np.uint8), xy, visible, (10, 20, 30, 40))
    posed = pose_view(view, FLIP, np.arange(1), frame=48)
    assert posed.xy_px.tolist() == [[38.0, 20.0]]
    assert posed.box_px == (18.0, 20.0, 38.0, 40.0)
    assert posed.mask is None
    assert pose_box((0, 0, 48, 48), Pose(False, 30.0), 48.0) == (0.0, 0.0, 48.0, 48.0)


@pytest.mark.parametrize(
    ("partner", "message"),
    [
        (None, "no mirror table was given"),
        (np.array([1, 2, 0]), "undoes itself"),
        (np.array([0, 0, 1]), "permutation of 3 slots"),
        (np.array([0, 1]), "permutation of 3 slots"),
    ],
)
def test_a_flip_without_a_sound_mirror_table_is_refused(partner: np.ndarray | None, message: str) -> None:
    view = View(np.zeros((8, 8, 3), np.uint8), np.zeros((3, 2)), np.ones(3, bool), (0, 0, 8, 8))
    with pytest.raises(ValueError, match=message):
        pose_view(view, FLIP, partner)
