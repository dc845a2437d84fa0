"""Points, visibility and slots move together, and with the pixels."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from geoalign.data.batch.augment import pose_slots
from geoalign.geometry import FLIP, UPRIGHT, Pose, pose_image
from geoalign.symmetry import Symmetry

SIDE = 48
SLOTS = 6
PARTNER = Symmetry(tuple("abcdef"), ((0, 1), (3, 5)), ()).permutation(SLOTS)
right_angles = st.sampled_from([0.0, 90.0, 180.0, 270.0])
any_pose = st.builds(Pose, st.booleans(), st.one_of(right_angles, st.floats(0, 360, exclude_max=True)))
fast = settings(max_examples=50)
Points = tuple[np.ndarray, np.ndarray]


@st.composite
def points(draw: st.DrawFn) -> Points:
    """Points inside the square, zero where not visible."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    visible = rng.random(SLOTS) < 0.7
    return rng.uniform(0, SIDE, (SLOTS, 2)).astype(np.float32) * visible[:, None], visible


def posed(view: Points, *poses: Pose) -> Points:
    for pose in poses:
        view = pose_slots(*view, pose, PARTNER, SIDE)
    return view


def assert_same(a: Points, b: Points) -> None:
    assert np.array_equal(a[1], b[1])
    np.testing.assert_allclose(a[0], b[0], atol=1e-4)


@fast
@given(points(), st.booleans())
def test_poses_compose(view: Points, flipped: bool) -> None:
    quarter, half = Pose(False, 90.0), Pose(False, 180.0)
    start = posed(view, Pose(flipped))
    assert_same(posed(view, UPRIGHT), view)
    assert_same(posed(view, FLIP, FLIP), view)
    assert_same(posed(start, quarter, quarter, quarter, quarter), start)
    assert_same(posed(view, FLIP, half), posed(view, half, FLIP))


@fast
@given(any_pose, st.integers(0, SLOTS - 1), st.floats(2, SIDE - 2), st.floats(2, SIDE - 2))
def test_a_blob_painted_at_a_point_lands_at_the_moved_point(pose: Pose, slot: int, x: float, y: float) -> None:
    """Pixels, points, visibility and labels agree, for arbitrary angles within 1.5 px."""
    pixels = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    pixels[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2] = 255
    xy, visible = np.zeros((SLOTS, 2), np.float32), np.zeros(SLOTS, bool)
    xy[slot], visible[slot] = (int(x) + 0.5, int(y) + 0.5), True
    moved, seen = posed((xy, visible), pose)
    new_slot = PARTNER[slot] if pose.flip else slot
    if not seen.any():
        assert pose.degrees % 90
        return
    assert seen.tolist() == (np.arange(SLOTS) == new_slot).tolist()
    column, row = moved[new_slot]
    ys, xs = np.nonzero(pose_image(pixels, pose)[..., 0] > 127)
    if 2 <= column <= SIDE - 2 and 2 <= row <= SIDE - 2:
        assert abs(xs.mean() + 0.5 - column) <= 1.5
        assert abs(ys.mean() + 0.5 - row) <= 1.5


@fast
@given(points(), any_pose)
def test_points_that_leave_the_square_become_invisible_and_zero(view: Points, pose: Pose) -> None:
    xy, visible = posed(view, pose)
    assert visible.sum() <= view[1].sum()
    if pose.degrees % 90 == 0:
        assert visible.sum() == view[1].sum()
    assert ((xy[visible] >= 0) & (xy[visible] <= SIDE)).all()
    assert (xy[~visible] == 0).all()


def test_a_corner_point_leaves_on_an_eighth_turn() -> None:
    xy, visible = np.array([[1.0, 1.0], [24.0, 24.0]], np.float32), np.array([True, True])
    moved, seen = pose_slots(xy, visible, Pose(False, 45.0), np.arange(2), SIDE)
    assert seen.tolist() == [False, True]
    assert moved[0].tolist() == [0.0, 0.0]
    assert visible.all(), "the input is left alone"


def test_right_angles_keep_points_annotated_just_outside() -> None:
    xy, visible = np.array([[-2.0, 5.0]], np.float32), np.array([True])
    moved, seen = pose_slots(xy, visible, Pose(False, 90.0), np.arange(1), SIDE)
    assert seen.all()
    assert moved.tolist() == [[5.0, SIDE + 2.0]]
