"""Choices of a pose: right where the azimuths come nearer, and the oracle that reads the truth."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoalign.geometry import FLIP, UPRIGHT, Pose
from geoalign.metrics import PoseChoice
from geoalign.metrics.pose_choice import oracle
from geoalign.types import Matches

POSES = (UPRIGHT, FLIP, Pose(False, 90.0))


def choice_rows():
    generator = torch.Generator().manual_seed(4)
    return torch.randint(0, 3, (23,), generator=generator), torch.randint(-1, 8, (23, 2), generator=generator)


def choices_of(index):
    metric = PoseChoice(POSES)
    if index:
        choice, azimuth = choice_rows()
        metric.update(choice[index], azimuth[index])
    return metric


def slowly(choice, azimuth):
    """Row by row, as the words say: angles between directions of view."""
    decided, right = {"same_side": 0, "opposite_sides": 0}, {"same_side": 0, "opposite_sides": 0}
    for pose, (src, trg) in zip(choice.tolist(), azimuth.tolist(), strict=True):
        if src < 0 or trg < 0:
            continue
        apart = [min(abs(a - trg) % 8, 8 - abs(a - trg) % 8) for a in (src, (8 - src) % 8)]
        if apart[0] == apart[1]:
            continue
        side = "same_side" if apart[0] < apart[1] else "opposite_sides"
        decided[side] += 1
        right[side] += POSES[pose] == (UPRIGHT if side == "same_side" else FLIP)
    return decided, right


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 7), st.integers(-1, 7)), max_size=12))
def test_counts_are_those_of_a_slow_reading(rows):
    metric = PoseChoice(POSES)
    table = torch.tensor(rows, dtype=torch.int64).reshape(-1, 3)
    for some in table.split(5):
        metric.update(some[:, 0], some[:, 1:])
    found = metric.compute()
    assert (found.decided, found.right) == slowly(table[:, 0], table[:, 1:])
    assert list(found.chosen.values()) == [int((table[:, 0] == p).sum()) for p in range(3)]
    assert all(value >= 0 for value in found.named("test", "mini").values())


def test_names_are_shares_and_what_they_are_of():
    metric = PoseChoice(POSES[:2])
    metric.update(torch.tensor([1, 0, 0, 0]), torch.tensor([[2, 6], [2, 6], [2, 2], [-1, 2]]))
    named = metric.compute().named("test", "mini")
    assert named["test/mini/pose/chosen_flip"] == 0.25
    assert named["test/mini/pose/right_where_azimuth_decides"] == pytest.approx(2 / 3)
    assert (named["test/mini/pose/right_opposite_sides"], named["test/mini/pose/pairs_opposite_sides"]) == (0.5, 2)
    assert not any("right_" in name for name in PoseChoice(POSES).compute().named("test", "mini"))


def test_the_oracle_takes_the_pose_with_most_points_right():
    truth = torch.zeros(3, 4, 2)
    far = torch.full((4, 2), 50.0)
    upright, flip = torch.stack([far, truth[0], far]), torch.stack([truth[0], truth[0] + 1, far])
    flip[0, 3] = 50.0
    batch = {"trg_xy_px": truth, "size_px": torch.full((3,), 100.0), "visible": torch.ones(3, 4, dtype=torch.bool)}
    by_pose = Matches(torch.stack([upright, flip]), torch.tensor([0.0, 1.0]).view(2, 1, 1).expand(2, 3, 4))
    best = oracle(by_pose, batch, 0.1, strict=True)
    assert best.score[:, 0].tolist() == [1.0, 0.0, 0.0], "most right; of equally right ones the earlier"
    assert torch.equal(best.xy_px[0], flip[0])
