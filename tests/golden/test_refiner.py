"""The released refiner's weights and output."""

import torch
from helpers.golden import load_arrays

from geoalign.refiner import Aggregation


def test_released_weights_give_the_released_output(compact):
    data = load_arrays("refiner", compact)
    refiner = Aggregation([64, 96, 96, 48], grid=12, width=128).eval()
    refiner.load_state_dict({k.removeprefix("weights."): v for k, v in data.items() if k.startswith("weights.")})
    output = refiner.aggregate(data["input"].split([64, 96, 96, 48], dim=1))
    torch.testing.assert_close(output, data["output"], rtol=1e-4, atol=1e-4 * data["output"].abs().max().item())
