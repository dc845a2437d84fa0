"""The choice of a pose by where keypoints land: mirror images and turns show in the constellation."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoalign.bank import PlainBank
from geoalign.geometry import FLIP, UPRIGHT, Pose, picture_extent
from geoalign.matching import Aligned, Matcher
from geoalign.matching.pose import transfer_posed
from geoalign.matching.pose_constellation import answers, cells_within, land, orientation

FRAME, SIDE = 80, 8
MATCHER = Matcher(radius=1, frame_px=FRAME)
WHOLE = torch.tensor([[0.0, 0.0, FRAME, FRAME]])
POINTS = torch.tensor([[[15.0, 25.0], [65.0, 15.0], [45.0, 55.0], [25.0, 65.0]]])


def distinct():
    """One view whose cells have orthogonal descriptors: every point is found."""
    torch.manual_seed(0)
    return torch.linalg.qr(torch.randn(70, 70)).Q[:64].T.reshape(70, SIDE, SIDE)


@given(st.floats(-3.1, 3.1), st.floats(0.3, 3.0), st.booleans())
def test_a_likeness_is_one_and_a_mirror_image_minus_one(angle, scale, mirrored):
    cos, sin = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[cos, -sin], [sin, cos]])
    points = POINTS / FRAME
    moved = points * torch.tensor([-1.0 if mirrored else 1.0, 1.0]) @ turn * scale
    mirror, upright = orientation(points, moved, torch.ones(1, 4))[0]
    assert mirror == pytest.approx(-1 if mirrored else 1, abs=2e-2)
    assert upright == pytest.approx(0 if mirrored else math.cos(angle), abs=3e-2)


def test_a_point_that_landed_elsewhere_does_not_turn_the_map():
    points = torch.rand(1, 9, 2, generator=torch.Generator().manual_seed(1))
    moved = points * 0.5 + 0.2
    moved[0, 0] = torch.tensor([0.9, 0.05])
    assert orientation(points, moved, torch.ones(1, 9))[0, 0] > 0.9


def test_few_points_and_none_say_nothing():
    assert orientation(POINTS[:, :1], POINTS[:, :1], torch.ones(1, 1))[0, 0].abs() < 1e-2
    assert orientation(POINTS, POINTS, torch.zeros(1, 4)).isfinite().all()


@pytest.mark.parametrize(("target", "pose"), [("same", 0), ("mirrored", 1), ("turned", 2)])
def test_the_pose_of_the_target_is_chosen_and_sure(target, pose):
    view = distinct()
    turned = view.rot90(1, (1, 2))
    shown = {"same": view, "mirrored": view.flip(-1), "turned": turned}[target]
    bank = PlainBank(torch.stack([view, view.flip(-1), turned, shown]), FRAME)
    poses = (UPRIGHT, FLIP, Pose(False, 90.0))
    seen, at = torch.ones(1, 4, dtype=torch.bool), torch.tensor([3])
    given = torch.tensor([[0, 1, 2]]), at, POINTS, seen, WHOLE.expand(4, -1), poses
    distance = land(bank, *given, MATCHER).distance
    # all three are found alike, cell by cell: only the geometry tells them apart
    assert int(distance.argmin()) == pose
    rows = {"src": at - 3, "trg": at, "src_poses": torch.tensor([[0, 1, 2]]), "src_xy_px": POINTS, "src_visible": seen,
            "wanted": seen, "partner": torch.arange(4)[None], "masks": None, "extent_px": WHOLE.expand(4, -1),
            "look": None}  # fmt: skip
    method = Aligned([str(p) for p in poses], "constellation")
    assert int(method(bank, rows, Matcher(radius=1, frame_px=FRAME)).pose) == pose
    assert int(Aligned([str(p) for p in poses], "constellation", certainty=0.999).choose(bank, rows)) == 0


@given(st.integers(0, 2**16))
def test_one_pass_over_all_poses_answers_as_each_pose_alone(seed):
    """Also where bars are the likest place: matches are read from whole maps."""
    draw = torch.Generator().manual_seed(seed)
    bank = PlainBank(torch.nn.functional.normalize(torch.randn(5, 6, SIDE, SIDE, generator=draw), dim=1), FRAME)
    poses, b, n = (UPRIGHT, FLIP, Pose(False, 90.0)), 4, 5
    src_poses, trg = torch.randint(0, 5, (b, 3), generator=draw), torch.randint(0, 5, (b,), generator=draw)
    xy_px, seen = torch.rand(b, n, 2, generator=draw) * FRAME, torch.rand(b, n, generator=draw) > 0.3
    partner = torch.tensor([1, 0, 2, 4, 3]).expand(b, n)
    extent = torch.tensor([[0.0, 0.0, FRAME, FRAME / 2]]).expand(5, -1)
    landed = land(bank, src_poses, trg, xy_px, seen, extent, poses, MATCHER)
    every = answers(landed.matches, seen, partner, poses)
    for p in range(3):
        alone = transfer_posed(bank, src_poses, trg, xy_px, seen, partner, torch.full((b,), p), poses, MATCHER)
        torch.testing.assert_close(every.xy_px[p] * seen[..., None], alone.xy_px, atol=1e-3, rtol=0)
        torch.testing.assert_close(every.score[p] * seen, alone.score)
    whole = {"src": trg, "trg": trg, "src_poses": src_poses, "src_xy_px": xy_px, "src_visible": seen, "wanted": seen,
             "partner": partner, "masks": None, "extent_px": extent, "look": None}  # fmt: skip
    method = Aligned([str(pose) for pose in poses], "constellation")
    once, twice = method(bank, whole, MATCHER), method.match(bank, whole, method.choose(bank, whole), MATCHER)
    assert torch.equal(once.pose, twice.pose)
    torch.testing.assert_close(once.matches.xy_px, twice.matches.xy_px, atol=1e-3, rtol=0)


def test_bars_are_no_place_to_land():
    view = distinct()
    bank = PlainBank(torch.stack([view, view]), FRAME)
    upper = torch.tensor([[0.0, 0.0, FRAME, FRAME / 2]]).expand(2, -1)
    seen = torch.ones(1, 4, dtype=torch.bool)
    whole, half = (
        land(bank, torch.tensor([[0]]), torch.tensor([1]), POINTS, seen, extent, (UPRIGHT,), MATCHER).distance
        for extent in (WHOLE.expand(2, -1), upper)
    )
    assert half > whole, "two of the four keypoints can no longer be found"


@given(st.integers(20, 400), st.integers(20, 400), st.booleans(), st.sampled_from([0.0, 90.0, 180.0, 270.0]))
def test_extents_move_with_their_pictures(h, w, flip, degrees):
    x1, y1, x2, y2 = picture_extent((h, w), Pose(flip, degrees))
    sides = sorted([x2 - x1, y2 - y1])
    assert sides[1] == pytest.approx(840)
    assert sides[0] == pytest.approx(840 * min(h, w) / max(h, w))
    assert cells_within(torch.tensor([[x1, y1, x2, y2]]), (60, 60), 14.0).any()
