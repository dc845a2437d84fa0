"""Released read-outs of 15 keypoints, in pixels."""

import pytest
import torch
from helpers.golden import load_arrays

from geoalign.bank import PlainBank
from geoalign.matching import Matcher, transfer

CASES = {
    "argmax": Matcher(readout="argmax", source="floor"),
    "kernel_soft_argmax_sigma_5": Matcher(readout="kernel", source="floor"),
    **{f"soft_argmax_window_{r}": Matcher(radius=r, outside="zero", source="floor") for r in (0, 3, 5, 7)},
}


@pytest.mark.parametrize("name", CASES)
def test_released_matcher(compact, name):
    data = load_arrays("matching", compact)
    bank = PlainBank(torch.stack([data[k].T.reshape(-1, 60, 60) for k in ("source", "target")]))
    zero, one = torch.tensor([0]), torch.tensor([1])
    got = transfer(bank, zero, one, data["keypoints"][None], CASES[name]).xy_px[0]
    torch.testing.assert_close(got, data[name], rtol=0, atol=1e-2)
