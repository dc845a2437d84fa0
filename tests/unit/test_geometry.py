"""Properties of the coordinate convention: what goes there comes back, and pixels agree with points."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geoalign.geometry import (
    FLIP,
    UPRIGHT,
    Pose,
    cell_to_px,
    flip_points,
    letterbox,
    letterbox_points,
    placement,
    pose_image,
    pose_points,
    px_to_cell,
    rotate_points,
    unletterbox_points,
    unpose_points,
)

sides = st.integers(1, 3000)
degrees = st.floats(0, 360, exclude_max=True)
poses = st.builds(Pose, st.booleans(), degrees)


def points(frame: float, n: int = 5) -> st.SearchStrategy[np.ndarray]:
    """``(n 2)`` float64 points inside a square of ``frame`` px."""
    return st.lists(st.floats(0, frame), min_size=2 * n, max_size=2 * n).map(lambda v: np.array(v).reshape(n, 2))


@given(sides, sides, st.integers(14, 1000))
def test_letterbox_fits_the_frame_and_centres(h: int, w: int, frame: int) -> None:
    scale, new_h, new_w, dx, dy = placement((h, w), frame)
    assert max(new_h, new_w) == frame
    assert min(new_h, new_w) >= 1
    assert 0 <= frame - new_w - 2 * dx <= 1
    assert 0 <= frame - new_h - 2 * dy <= 1
    assert scale == (frame / max(h, w),) * 2


@given(sides, sides, points(1000))
def test_letterbox_points_come_back(h: int, w: int, xy: np.ndarray) -> None:
    there = letterbox_points(xy, (h, w), 840)
    np.testing.assert_allclose(unletterbox_points(there, (h, w), 840), xy, atol=1e-6 * max(h, w))


def test_letterbox_paints_the_image_where_the_points_go() -> None:
    image = Image.new("RGB", (50, 30), "white")
    square = np.asarray(letterbox(image, 100))
    x1, y1 = letterbox_points(np.array([0.0, 0.0]), (30, 50), 100)
    x2, y2 = letterbox_points(np.array([50.0, 30.0]), (30, 50), 100)
    assert (x1, y1, x2, y2) == (0, 20, 100, 80)
    assert square[20:80].min() == 255
    assert square[:20].max() == square[80:].max() == 0


def test_letterbox_keeps_the_image_mode_and_rejects_nothing() -> None:
    assert letterbox(Image.new("L", (9, 5)), 28).mode == "L"
    with pytest.raises(ValueError, match="at least one pixel a side, got 0x5"):
        placement((0, 5), 28)


@given(st.integers(0, 3), points(840))
def test_four_quarter_turns_are_the_identity(start: int, xy: np.ndarray) -> None:
    turned = rotate_points(xy, 90.0 * start)
    for _ in range(4):
        turned = rotate_points(turned, 90.0)
    np.testing.assert_allclose(turned, rotate_points(xy, 90.0 * start), atol=1e-9)


@given(points(840))
def test_flip_twice_is_the_identity(xy: np.ndarray) -> None:
    np.testing.assert_allclose(flip_points(flip_points(xy)), xy, atol=1e-9)


@given(poses, points(840))
def test_unpose_undoes_pose_and_keeps_distances(pose: Pose, xy: np.ndarray) -> None:
    there = pose_points(xy, pose)
    np.testing.assert_allclose(unpose_points(there, pose), xy, atol=1e-6)
    np.testing.assert_allclose(
        np.linalg.norm(there[1:] - there[0], axis=-1), np.linalg.norm(xy[1:] - xy[0], axis=-1), atol=1e-9
    )


@given(st.booleans(), degrees, points(100))
def test_numpy_and_torch_agree(flip: bool, angle: float, xy: np.ndarray) -> None:
    ours = pose_points(torch.from_numpy(xy), Pose(flip, angle), 100.0)
    np.testing.assert_allclose(ours.numpy(), pose_points(xy, Pose(flip, angle), 100.0), atol=1e-9)


@pytest.mark.parametrize("angle", [0.0, 33.0, 90.0, 200.0])
def test_whole_numbered_points_are_not_truncated(angle: float) -> None:
    whole, real = np.array([[3, 4], [90, 1]]), np.array([[3.0, 4.0], [90.0, 1.0]])
    for function in (lambda xy: pose_points(xy, Pose(True, angle), 99), lambda xy: letterbox_points(xy, (30, 71), 99)):
        np.testing.assert_allclose(function(whole), function(real))
        np.testing.assert_allclose(function(torch.from_numpy(whole)), function(real), rtol=1e-5, atol=1e-4)


@settings(max_examples=60)
@given(poses, st.integers(4, 35), st.integers(4, 35))
def test_a_painted_pixel_lands_at_the_moved_point(pose: Pose, column: int, row: int) -> None:
    square = np.zeros((40, 40), dtype=np.uint8)
    square[row - 1 : row + 2, column - 1 : column + 2] = 255
    moved = pose_points(np.array([column + 0.5, row + 0.5]), pose, 40.0)
    if moved.min() < 3 or moved.max() > 37:
        return
    weights = pose_image(square, pose).astype(float)
    ys, xs = np.mgrid[0:40, 0:40] + 0.5
    centre = np.array([(xs * weights).sum(), (ys * weights).sum()]) / weights.sum()
    assert np.abs(centre - moved).max() < 0.25


@given(st.booleans(), st.sampled_from([0.0, 90.0, 180.0, 270.0]), st.integers(0, 6), st.integers(0, 6))
def test_right_angles_move_pixels_exactly(flip: bool, angle: float, column: int, row: int) -> None:
    square = np.arange(7 * 7 * 3, dtype=np.int64).reshape(7, 7, 3)
    x, y = pose_points(np.array([column + 0.5, row + 0.5]), Pose(flip, angle), 7.0)
    assert (pose_image(square, Pose(flip, angle))[int(y), int(x)] == square[row, column]).all()


@pytest.mark.parametrize("dtype", [np.uint8, bool])
@pytest.mark.parametrize("shape", [(31, 31), (30, 30, 3)])
def test_other_angles_pad_with_the_edge(dtype: type, shape: tuple[int, ...]) -> None:
    if dtype is bool and len(shape) == 3:
        shape = shape[:2]
    turned = pose_image(np.ones(shape, dtype=dtype), Pose(False, 30.0))
    assert turned.shape == shape
    assert turned.dtype == dtype
    assert (turned == 1).all()


@pytest.mark.unchecked
def test_poses_need_a_square() -> None:
    with pytest.raises(ValueError, match="letterbox first"):
        pose_image(np.zeros((3, 4)), FLIP)


@given(st.floats(-100, 1000), st.sampled_from([1.0, 8.0, 14.0, 16.0]))
def test_cells_and_pixels_undo_each_other(x: float, stride: float) -> None:
    assert math.isclose(cell_to_px(px_to_cell(np.array([x]), stride), stride)[0], x, abs_tol=1e-9)


def test_the_first_cell_is_centred_half_a_stride_in() -> None:
    assert cell_to_px(torch.tensor([0.0, 59.0]), 14).tolist() == [7.0, 833.0]


@given(poses)
def test_a_pose_is_read_back_from_its_name(pose: Pose) -> None:
    again = Pose.parse(str(pose))
    assert again.flip == pose.flip
    assert abs((again.degrees - pose.degrees + 180) % 360 - 180) <= 1e-6


@pytest.mark.parametrize("text", ["", "rot", "rot-90", "rot1.2.3", "turned", "flip+", "rotnan"])
def test_a_wrong_pose_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="pose is upright, flip"):
        Pose.parse(text)


def test_pose_names() -> None:
    assert (str(UPRIGHT), str(FLIP), str(Pose(True, 12.5))) == ("upright", "flip", "flip+rot12.5")
    assert Pose.parse("rot450") == Pose(False, 90.0)
