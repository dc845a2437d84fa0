"""The compact set is what its script cuts from the full one, and stays small."""

import json

import numpy as np
import pytest
from helpers.golden import COMPACT, SHARED, from_planes
from make_compact import cut_arrays, cut_scores


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in COMPACT.iterdir()) <= 1_500_000


@pytest.mark.skipif(not (SHARED / "golden").is_dir(), reason=f"no full set in {SHARED}")
def test_the_script_cuts_it_from_the_full_set() -> None:
    expected = cut_arrays(SHARED / "golden")
    with np.load(COMPACT / "released.npz", allow_pickle=False) as stored:
        kept = {k.removesuffix(":planes"): from_planes(v) if k.endswith(":planes") else v for k, v in stored.items()}
    assert kept.keys() == expected.keys()
    assert all(np.array_equal(kept[name], expected[name]) for name in expected)
    scores = cut_scores(SHARED / "golden", SHARED / "data" / "spair-mini")
    assert json.loads((COMPACT / "pck_spair.json").read_text()) == json.loads(json.dumps(scores))
