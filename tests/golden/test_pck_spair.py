"""Published-protocol scores of 150 real pairs, recomputed from stored predictions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.golden import SHARED, load_json

from geoalign.data.records import ImageRecord, PairRecord, pck_size_px
from geoalign.data.symmetry_table import read_symmetries
from geoalign.geometry import letterbox_points, placement
from geoalign.metrics import PCK, Score
from geoalign.metrics.functional import AZIMUTH_BINS, azimuth_subset, point_error_px, subset_masks

ALPHAS = (0.1, 0.05, 0.01)
CATEGORIES = ("bicycle", "bird", "bus", "car", "cat", "horse", "person", "tvmonitor")
SLOTS = 30


def read_image(golden: dict, category: str, name: str) -> ImageRecord:
    """An image's annotation, from the compact set or the sample of SPair-71k itself."""
    sample = SHARED / f"data/spair-mini/ImageAnnotation/{category}/{name}.json"
    data = golden["images"][f"{category}/{name}"] if "images" in golden else json.loads(sample.read_text())
    points = [data["kps"].get(str(slot)) for slot in range(SLOTS)]
    return ImageRecord(
        name,
        Path(f"{name}.jpg"),
        (data["image_height"], data["image_width"]),
        category,
        np.array([p or (0, 0) for p in points], dtype=np.float32),
        np.array([p is not None for p in points]),
        tuple(data["bndbox"]),
        data["azimuth_id"],
    )


def read_prediction(stored: list | dict) -> torch.Tensor:
    """All slots, or those that count."""
    if isinstance(stored, list):
        return torch.tensor(stored)
    return torch.tensor([stored.get(str(slot), (0.0, 0.0)) for slot in range(SLOTS)])


@pytest.fixture(scope="module")
def golden(compact):
    return load_json("pck_spair", compact)


@pytest.fixture(scope="module")
def result(golden):
    symmetries = read_symmetries("spair71k", SLOTS, CATEGORIES)
    metric = PCK(ALPHAS, CATEGORIES)
    for entry in golden["predictions"]:
        stem, category = entry["pair"].split(":")
        src, trg = (read_image(golden, category, name) for name in stem.split("-")[1:])
        pair = PairRecord(entry["pair"], src, trg, category)
        symmetry = symmetries[category]
        truth = torch.from_numpy(letterbox_points(trg.xy_px, trg.size))
        scale = placement(trg.size, 840).scale[0]
        masks = subset_masks(
            torch.from_numpy(pair.visible)[None],
            torch.from_numpy(symmetry.geometry_aware(pair.visible, trg.visible))[None],
            torch.tensor([pair.azimuth_difference]),
            torch.from_numpy(symmetry.permutation(30))[None],
        )
        error_px = point_error_px(read_prediction(entry["prediction"]), truth)[None]
        size_px = torch.tensor([pck_size_px(trg, "box") * scale])
        category_id = torch.tensor([CATEGORIES.index(category)])
        metric.update(error_px, size_px, torch.from_numpy(pair.visible)[None], masks, category_id)
    return metric.compute()


@pytest.fixture(scope="module")
def expected(golden):
    return golden["expected"]


def same(result, want, subset, average, category="all"):
    for alpha, value in want.items():
        assert result.scores[Score(subset, category, float(alpha), average)] == pytest.approx(value, abs=1e-6)


def test_whole_set(result, expected):
    same(result, expected["per_image"], "all", "image")
    same(result, expected["per_keypoint"], "all", "keypoint")
    same(result, expected["per_image_geo"], "geometry_aware", "image")
    same(result, expected["per_keypoint_geo"], "geometry_aware", "keypoint")


def test_counts(result, expected):
    assert result.counts["all", "all"] == (expected["pairs"], expected["keypoints"])
    assert result.counts["geometry_aware", "all"].keypoints == expected["geo_keypoints"]


@pytest.mark.parametrize("category", CATEGORIES)
def test_categories(result, expected, category):
    same(result, expected["per_image_by_category"][category], "all", "image", category)
    same(result, expected["per_image_geo_by_category"][category], "geometry_aware", "image", category)


@pytest.mark.parametrize("difference", range(AZIMUTH_BINS))
def test_azimuth_differences(result, expected, difference):
    bin_name, want = azimuth_subset(difference), str(difference)
    assert result.counts[bin_name, "all"].pairs == expected["pairs_by_azimuth_difference"][want]
    same(result, expected["per_image_by_azimuth_difference"][want], bin_name, "image")
    geometry_aware = azimuth_subset(difference, geometry_aware=True)
    same(result, expected["per_keypoint_geo_by_azimuth_difference"][want], geometry_aware, "keypoint")
