"""AP-10K read: the real sample, a folder the release generated, and every broken file."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path

import ap10k_tree as tree
import numpy as np
import pytest
from helpers.fuzz import Mutation, every, json_mutations, verdict

from geoalign.data.readers.ap10k import AP10K
from geoalign.data.readers.ap10k_pairs import CAPS
from geoalign.data.readers.ap10k_release import list_folder
from geoalign.data.records import DataError, pck_size_px


def coco() -> dict:
    """Two images, the second with two animals listed in the wrong order."""
    points = [v for i in range(17) for v in (10 + i, 20 + i, 2)]
    first = {"id": 5, "image_id": 1, "category_id": 1, "bbox": [4, 6, 30, 40], "keypoints": points}
    second = {
        "id": 8,
        "image_id": 2,
        "category_id": 26,
        "bbox": [1, 2, 50, 20],
        "keypoints": [0, 0, 0] * 3 + points[9:],
    }
    return {
        "images": [
            {"id": 1, "file_name": "000000000001.jpg", "width": 60, "height": 50},
            {"id": 2, "file_name": "000000000002.jpg", "width": 64, "height": 48},
        ],
        "annotations": [first, {**second, "id": 9, "category_id": 1}, second],
        "categories": [tree.CATEGORIES[0], tree.CATEGORIES[25]],
    }


def write(root: Path, document: object) -> Path:
    path = root / "annotations" / "ap10k-test-split1.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
    return path


def read(root: Path) -> AP10K:
    return AP10K(root, setting="all_pairs", require_images=False)


def test_sample_reads_in_both_directions(shared):
    source = AP10K(shared / "data" / "ap10k-sample", split="test", setting="all_pairs")
    assert [p.pair_id for p in source] == [
        "000000000004-000000037516:antelope",
        "000000037516-000000000004:jaguar",
    ]
    assert source.categories == ("antelope", "jaguar")
    antelope, other = source[0].src, source[0].trg
    assert antelope.box_px == (408, 197, 837, 538)
    assert pck_size_px(other, source.threshold) == 1092
    assert other.xy_px[0].tolist() == [134, 415]
    assert (antelope.size, other.size) == ((683, 1024), (867, 1200))
    assert source[0].visible.sum() == 16
    assert not source[0].visible[1]
    assert source[0].azimuth_difference == -1
    assert antelope.mask_path is None
    assert (source.symmetries["jaguar"].permutation(17)[[0, 5]] == [1, 8]).all()
    assert len(source.images) == 2
    assert all(image.path.is_file() for image in source.images)


def test_first_animal_counts_and_slots_stay(tmp_path):
    write(tmp_path, coco())
    pair = read(tmp_path)[0]
    assert (pair.src.category, pair.trg.category) == ("antelope", "jaguar")
    assert np.flatnonzero(~pair.trg.visible).tolist() == [0, 1, 2]
    assert (pair.trg.xy_px[~pair.trg.visible] == 0).all()
    assert pair.trg.box_px == (1, 2, 51, 22)


def test_pairs_without_three_common_points_are_none(tmp_path):
    document = coco()
    document["annotations"][0]["keypoints"] = [1, 1, 1] * 5 + [0, 0, 0] * 12
    write(tmp_path, document)
    with pytest.raises(DataError, match="at least one pair"):
        read(tmp_path)


@pytest.mark.unchecked
def test_settings_are_checked(tmp_path):
    write(tmp_path, coco())
    for wrong in ({"split": "dev"}, {"setting": "all", "split": "val"}, {"pairs": "made"}, {"threshold": "area"}):
        with pytest.raises((ValueError, TypeError)):  # TypeError: where types are checked at run time
            AP10K(tmp_path, **{"setting": "all_pairs", "require_images": False, **wrong})
    with pytest.raises(DataError, match=r"000000000001.jpg: image: .*2 of 2 images are missing"):
        AP10K(tmp_path, setting="all_pairs")
    assert AP10K(tmp_path, setting="all_pairs", require_images=False, symmetry=None).symmetries == {}
    only = AP10K(tmp_path, setting="all_pairs", require_images=False, categories=["jaguar"])
    assert [p.src.category for p in only] == ["jaguar"]
    with pytest.raises(DataError, match="dragon"):
        AP10K(tmp_path, setting="all_pairs", require_images=False, categories=["dragon"])


USED = {"id", "image_id", "category_id", "bbox", "keypoints", "file_name", "width", "height", "name", "supercategory"}
IGNORED = {"keypoints", "skeleton"}  # of a category


def is_read(path: tuple) -> bool:
    if len(path) > 3:
        return path[3] in (0, 2, 50)
    return len(path) < 3 or (path[2] in USED and not (path[0] == "categories" and path[2] in IGNORED))


BROKEN = random.Random(0).sample(list(json_mutations(coco(), is_read)), 160)


def test_broken_annotations(tmp_path: Path):
    def check(mutation: Mutation):
        path = write(tmp_path, mutation.data)
        result = verdict(lambda: read(tmp_path), path, tmp_path)
        if not isinstance(result, DataError):
            document = json.loads(mutation.data)
            assert len(result.images) == 2, "no image is skipped silently"
            for image, entry in zip(result.images, document["images"], strict=True):
                assert (image.path.name, image.size) == (entry["file_name"], (entry["height"], entry["width"]))
                own = (a for a in document["annotations"] if a["image_id"] == entry["id"])
                points = np.array(min(own, key=lambda a: a["id"])["keypoints"], float).reshape(17, 3)
                np.testing.assert_allclose(image.xy_px, points[:, :2] * (points[:, 2:] > 0))

    every(BROKEN, check)


@pytest.mark.parametrize("ids", ["12\nx\n", "1,2", "-3", "٣", "1.5", "000000000001 2"])
def test_broken_crowd_lists(tmp_path, ids):
    crowd = tmp_path / "is_crowd.txt"
    crowd.write_text(ids)
    error = verdict(lambda: AP10K(tmp_path, crowd_sha256=None, require_images=False), crowd)
    assert isinstance(error, DataError)


def test_an_image_in_two_files_is_an_error(tmp_path):
    tree.write(tmp_path / "a", [coco(), coco(), coco()], [])
    with pytest.raises(DataError, match=r"val-split1.json: images: .* one official split"):
        AP10K(tmp_path / "a", crowd_sha256=None, require_images=False)


@pytest.fixture
def released(tmp_path) -> Path:
    """A folder as the release's preparation lays it out: three images of two species."""
    points = [v for i in range(17) for v in (10 + i, 20 + i, 2)]
    for number, family, species in ((1, "Bovidae", "cow"), (2, "Bovidae", "cow"), (3, "Felidae", "cat")):
        document = {
            "id": number,
            "image_id": number,
            "category_id": 5,
            "bbox": [4, 6, 30, 40],
            "keypoints": points,
            "file_name": f"{number:012d}.jpg",
            "width": 60,
            "height": 50,
            "name": species,
            "supercategory": family,
        }
        path = tmp_path / "ImageAnnotation" / family / species / f"{number:012d}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))
    ends = {n: f"data/ap-10k/ImageAnnotation/Bovidae/cow/{n:012d}.json" for n in (1, 2)}
    ends[3] = "data/ap-10k/ImageAnnotation/Felidae/cat/000000000003.json"
    for folder, src, trg, category in (("trn", 1, 2, "cow"), ("val", 2, 1, "cow"), ("test_cross_family", 3, 1, "all")):
        path = tmp_path / "PairAnnotation" / folder / f"{src:012d}-{trg:012d}:{category}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"src_json_path": ends[src], "trg_json_path": ends[trg]}))
    return tmp_path


def test_released_folder_reads(released):
    def options(split: str, setting: str) -> AP10K:
        return AP10K(released, split, setting, pairs="released", require_images=False)

    assert [p.pair_id for p in options("train", "intra_species")] == ["000000000001-000000000002:cow"]
    assert [p.pair_id for p in options("val", "intra_species")] == ["000000000002-000000000001:cow"]
    (pair,) = options("test", "cross_family")
    assert pair.category == "all"
    assert pair.src.path == released / "JPEGImages" / "Felidae" / "cat" / "000000000003.jpg"
    with pytest.raises(DataError, match="pair annotations"):
        options("val", "cross_species")
    folders = {list_folder(released, *key).name for key in CAPS}
    assert folders == {
        "trn",
        "val",
        "test",
        *(f"{s}_cross_{k}" for s in ("val", "test") for k in ("species", "family")),
    }


PAIR = {
    "src_json_path": "data/ap-10k/ImageAnnotation/Bovidae/cow/000000000001.json",
    "trg_json_path": "data/ap-10k/ImageAnnotation/Bovidae/cow/000000000002.json",
}


def test_broken_released_pairs(released):
    (path,) = (released / "PairAnnotation" / "trn").glob("*.json")

    def check(mutation: Mutation):
        path.write_bytes(mutation.data)
        result = verdict(lambda: AP10K(released, "trn", pairs="released", require_images=False), path)
        assert isinstance(result, DataError) or len(result) == 1

    every(list(json_mutations(PAIR, lambda path: True))[::3], check)


def test_released_folder_is_cross_checked(released):
    path = released / "ImageAnnotation" / "Felidae" / "cat" / "000000000003.json"
    document = json.loads(path.read_text())
    for key, value in (("id", 1), ("name", "dog"), ("supercategory", "Canidae"), ("file_name", "../x.jpg")):
        path.write_text(json.dumps({**copy.deepcopy(document), key: value}))
        with pytest.raises(DataError):
            AP10K(released, "test", "cross_family", pairs="released", require_images=False)
    doubled = released / "PairAnnotation" / "trn" / "again:cow.json"
    doubled.write_text(json.dumps(PAIR))
    with pytest.raises(DataError, match="a pair once"):
        AP10K(released, "trn", pairs="released", require_images=False)
