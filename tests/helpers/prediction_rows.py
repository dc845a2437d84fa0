"""Random batches and matches for the tests of results, intervals and summaries."""

import torch

from geoalign.types import Matches

CATEGORIES = ("bus", "cat", "dog")


def make_batch(rows: int = 12, slots: int = 6, seed: int = 0) -> tuple[dict, Matches]:
    """A batch (the fields results need) whose first pair has no common keypoint."""
    generator = torch.Generator().manual_seed(seed)
    visible = torch.rand(rows, slots, generator=generator) < 0.7
    visible[0] = False
    truth = torch.rand(rows, slots, 2, generator=generator) * 840
    batch = {
        "pair_id": [f"{seed}-{row:03d}" for row in range(rows)],
        "visible": visible,
        "trg_xy_px": truth,
        "size_px": torch.rand(rows, generator=generator) * 300 + 200,
        "geometry_aware": torch.rand(rows, slots, generator=generator) < 0.5,
        "partner": torch.tensor([1, 0, *range(2, slots)]).expand(rows, -1),
        "category": torch.randint(0, len(CATEGORIES), (rows,), generator=generator),
        "azimuth_difference": torch.randint(-1, 5, (rows,), generator=generator),
    }
    predicted = truth + torch.randn(rows, slots, 2, generator=generator) * 25
    return batch, Matches(predicted, torch.rand(rows, slots, generator=generator))
