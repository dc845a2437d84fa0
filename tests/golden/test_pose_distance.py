"""Released instance matching distances."""

import torch
from helpers.golden import load_arrays

from geoalign.matching.pose import RELEASED_GRID, masked_distance, mutual_distance


def test_released_distances(compact):
    data = load_arrays("pose_distance", compact)
    for pose in ("",) if compact else ("", "_flipped"):  # the compact set has no mirrored source
        source, target = (data[k].T.reshape(-1, 60, 60) for k in (f"source{pose}", "target"))
        src_mask, trg_mask = data["mask_source"].bool(), data["mask_target"].bool()
        src_mask = src_mask.flip(-1) if pose else src_mask
        masked = masked_distance(source, target, src_mask, trg_mask, grid=RELEASED_GRID)
        torch.testing.assert_close(masked, data[f"masked_distance{pose}"][0], rtol=1e-4, atol=0)
        mutual = mutual_distance(source, target)
        torch.testing.assert_close(mutual, data[f"mutual_nn_distance{pose}"][0], rtol=1e-4, atol=0)
