"""The stored predictions scored through the SPair-71k reader, the metric and a predictions file."""

import json
from pathlib import Path

import pytest
import torch

from geoalign.data.readers.spair import SPair71k
from geoalign.data.records import pck_size_px
from geoalign.geometry import letterbox_points, placement
from geoalign.metrics import PCK, Score
from geoalign.metrics.functional import point_error_px, subset_masks
from geoalign.results.predictions import (
    batch_columns,
    make_table,
    read_predictions,
    scores_from_predictions,
    write_predictions,
)
from geoalign.types import Matches

SHARED = Path(__file__).parents[3] / "shared"
GOLDEN, SPAIR = SHARED / "golden/pck_spair.json", SHARED / "data/spair-mini"
ALPHAS = (0.1, 0.05, 0.01)

pytestmark = pytest.mark.skipif(not GOLDEN.is_file(), reason=f"needs the golden predictions at {GOLDEN}")


@pytest.fixture(scope="module")
def golden():
    return json.loads(GOLDEN.read_text())


@pytest.fixture(scope="module")
def source():
    return SPair71k(SPAIR, "test", require_images=False)


def make_row(source, pair):
    """One pair as a batch of one row, points in the frame."""
    symmetry, slots = source.symmetries[pair.category], source.slots
    return {
        "pair_id": [pair.pair_id],
        "visible": torch.from_numpy(pair.visible)[None],
        "trg_xy_px": torch.from_numpy(letterbox_points(pair.trg.xy_px, pair.trg.size))[None],
        "size_px": torch.tensor([pck_size_px(pair.trg, source.threshold) * placement(pair.trg.size, 840).scale[0]]),
        "geometry_aware": torch.from_numpy(symmetry.geometry_aware(pair.visible, pair.trg.visible))[None],
        "partner": torch.from_numpy(symmetry.permutation(slots))[None],
        "category": torch.tensor([source.categories.index(pair.category)]),
        "azimuth_difference": torch.tensor([pair.azimuth_difference]),
    }


def test_metric_and_file_give_the_expected_scores(golden, source, tmp_path):
    predicted = {entry["pair"]: torch.tensor(entry["prediction"])[None] for entry in golden["predictions"]}
    metric, columns = PCK(ALPHAS, source.categories), []
    for pair in source:
        row, xy_px = make_row(source, pair), predicted[pair.pair_id]
        masks = subset_masks(row["visible"], row["geometry_aware"], row["azimuth_difference"], row["partner"])
        error = point_error_px(xy_px, row["trg_xy_px"])
        metric.update(error, row["size_px"], row["visible"], masks, row["category"])
        columns.append(batch_columns(row, Matches(xy_px, torch.ones(1, 30)), source.categories))
    write_predictions(tmp_path / "p.parquet", make_table(columns), list(predicted))
    result = metric.compute()
    assert scores_from_predictions(read_predictions(tmp_path / "p.parquet").table, ALPHAS) == result
    expected = golden["expected"]
    assert result.counts["all", "all"] == (expected["pairs"], expected["keypoints"])
    for name, subset, average in (
        ("per_image", "all", "image"),
        ("per_keypoint", "all", "keypoint"),
        ("per_image_geo", "geometry_aware", "image"),
        ("per_keypoint_geo", "geometry_aware", "keypoint"),
    ):
        found = {alpha: result.scores[Score(subset, "all", float(alpha), average)] for alpha in expected[name]}
        assert found == pytest.approx(expected[name], abs=1e-6)
