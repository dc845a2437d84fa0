import pytest
import torch

from geoalign.metrics import PosePrediction, Score, azimuth_sensitivity
from geoalign.metrics.robustness import POSES, sensitivity


def pose_rows(rows: int = 23) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "distance": torch.rand(rows, 4, generator=generator),
        "pose": torch.randint(-1, 4, (rows,), generator=generator),
    }


def test_pose_accuracy_equals_plain_loops():
    rows = pose_rows(60)
    asked = {"left_right": [], "front_back": [], "either": [], "four_way": []}
    for distance, pose in zip(rows["distance"].tolist(), rows["pose"].tolist(), strict=True):
        if pose < 0:
            continue
        nearest = {name: distance[i] for i, name in enumerate(POSES)}
        axis = ("left", "right") if pose < 2 else ("front", "back")
        right = min(axis, key=nearest.__getitem__) == POSES[pose]
        asked["left_right" if pose < 2 else "front_back"].append(right)
        asked["either"].append(right)
        asked["four_way"].append(min(nearest, key=nearest.__getitem__) == POSES[pose])
    metric = PosePrediction()
    metric.update(**rows)
    want = {("pose_accuracy", name): sum(right) / len(right) for name, right in asked.items()}
    assert metric.compute() == pytest.approx(want)


def test_questions_nobody_was_asked_are_absent():
    metric = PosePrediction()
    metric.update(torch.tensor([[0.1, 0.2, 0.0, 0.0]]), torch.tensor([0]))
    assert metric.compute() == {
        ("pose_accuracy", "left_right"): 1.0,
        ("pose_accuracy", "either"): 1.0,
        ("pose_accuracy", "four_way"): 0.0,
    }


@pytest.mark.parametrize(
    ("distance", "pose", "message"),
    [(torch.ones(1, 4), 4, "pose ids"), (torch.tensor([[1.0, torch.inf, 1, 1]]), 0, "one template of each")],
)
def test_bad_poses_are_refused(distance, pose, message):
    with pytest.raises(ValueError, match=message):
        PosePrediction().update(distance, torch.tensor([pose]))


def test_sensitivity_is_the_relative_spread_of_both_sets():
    bins = {0: 0.8, 1: 0.6, 3: 0.2}
    scores = {Score(f"azimuth_{d}", "cat", 0.1, "image"): value for d, value in bins.items()}
    scores |= {Score(f"geometry_aware_azimuth_{d}", "cat", 0.1, "image"): value / 2 + 0.1 for d, value in bins.items()}
    scores |= {Score("all", "cat", 0.1, "image"): 0.5, Score("azimuth_0", "bus", 0.1, "image"): 0.5}
    found = azimuth_sensitivity(scores)
    assert found[Score("all", "cat", 0.1, "image")] == pytest.approx(0.6 / 0.8)
    assert found[Score("geometry_aware", "cat", 0.1, "image")] == pytest.approx(0.3 / 0.5)
    assert {key.category for key in found} == {"cat"}  # one bin is no spread


def test_sensitivity_of_nothing_or_of_zeros_is_none():
    assert sensitivity([]) is sensitivity([0.4]) is sensitivity([0.0, 0.0]) is None
    assert sensitivity([0.5, 0.5]) == 0
