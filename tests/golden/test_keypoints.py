"""Letterboxed points equal the released preprocessing."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers.golden import COMPACT

from geoalign.geometry import letterbox_points, placement, unletterbox_points

CASES = json.loads((COMPACT / "keypoints.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['width']}x{case['height']}")
def test_letterbox_equals_the_release(case: dict) -> None:
    size = (case["height"], case["width"])
    scale, _, _, dx, dy = placement(size, case["size"])
    assert [dx, dy] == case["offset"]
    assert scale == pytest.approx((case["scale"],) * 2)
    given, want = torch.tensor(case["keypoints"]), torch.tensor(case["resized"])
    visible = given[:, 2:] > 0
    ours = letterbox_points(given[:, :2], size, case["size"]) * visible
    assert torch.equal(visible, want[:, 2:] > 0)
    np.testing.assert_allclose(ours, want[:, :2], atol=1e-3)
    back = unletterbox_points(want[:, :2], size, case["size"])[visible[:, 0]]
    np.testing.assert_allclose(back, given[visible[:, 0], :2], atol=1e-3)
