"""The published protocol's numbers on 150 real pairs, through the real reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from geoalign.data import SPair71k
from geoalign.data.records import PairRecord, pck_size_px
from geoalign.geometry import letterbox_points, placement


@pytest.fixture(scope="module")
def source(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> SPair71k:
    """The real annotations beside blank pictures of the annotated size."""
    root = tmp_path_factory.mktemp("spair-mini")
    for part in ("ImageAnnotation", "PairAnnotation", "Layout"):
        (root / part).symlink_to(shared / "data/spair-mini" / part)
    for image in SPair71k(root, require_images=False).images:
        image.path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", image.size[::-1]).save(image.path)
    return SPair71k(root)


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, Any]:
    return json.loads((shared / "golden/pck_spair.json").read_text())


def hits(pair: PairRecord, prediction: np.ndarray, alpha: float) -> np.ndarray:
    truth = letterbox_points(pair.trg.xy_px, pair.trg.size)
    error = np.linalg.norm(prediction - truth, axis=1)[pair.visible]
    return error < alpha * pck_size_px(pair.trg, "box") * placement(pair.trg.size, 840).scale[0]


def test_pairs_are_the_list(source: SPair71k, golden: dict[str, Any]) -> None:
    assert [pair.pair_id for pair in source] == [entry["pair"] for entry in golden["predictions"]]
    assert source.notes == ()


@pytest.mark.parametrize("alpha", ["0.10", "0.05", "0.01"])
def test_sizes_and_points_give_the_published_pck(source: SPair71k, golden: dict[str, Any], alpha: str) -> None:
    predictions = [np.array(entry["prediction"]) for entry in golden["predictions"]]
    scores = [hits(pair, p, float(alpha)) for pair, p in zip(source, predictions, strict=True)]
    assert np.mean([s.mean() for s in scores]) == pytest.approx(golden["expected"]["per_image"][alpha], abs=1e-6)
    pooled = np.concatenate(scores).mean()
    assert pooled == pytest.approx(golden["expected"]["per_keypoint"][alpha], abs=1e-6)


def test_visibility_groups_and_azimuths_are_the_published(source: SPair71k, golden: dict[str, Any]) -> None:
    expected = golden["expected"]
    assert sum(int(pair.visible.sum()) for pair in source) == expected["keypoints"]
    aware = [source.symmetries[p.category].geometry_aware(p.visible, p.trg.visible).sum() for p in source]
    assert sum(map(int, aware)) == expected["geo_keypoints"]
    differences, counts = np.unique([pair.azimuth_difference for pair in source], return_counts=True)
    assert dict(zip(map(str, differences), counts.tolist(), strict=True)) == expected["pairs_by_azimuth_difference"]


def test_pair_files_agree_with_the_images(source: SPair71k) -> None:
    assert [problem for i in range(len(source)) for problem in source.check_pair_file(i)] == []


def test_tables_have_a_name_for_every_annotated_slot(source: SPair71k) -> None:
    for image in source.images:
        assert np.flatnonzero(image.visible).max() < len(source.symmetries[image.category].names)
