"""SPair-71k's reader: what it yields, where it looks, and how fast it indexes the full size."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.spair_tree import annotation, pair_annotation, put, write_tree
from PIL import Image

from geoalign.data import SPair71k, SPairU
from geoalign.data.images import open_rgb
from geoalign.data.records import DataError, pck_size_px

FULL = {"trn": 53_340, "val": 5_384, "test": 12_234}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_tree(tmp_path)
    return tmp_path


def test_pairs_follow_the_list(tmp_path: Path) -> None:
    lines = write_tree(tmp_path)
    source = SPair71k(tmp_path)
    assert [pair.pair_id for pair in source] == lines
    assert (source.name, source.split, source.threshold, source.slots) == ("spair71k", "test", "box", 30)
    assert source.categories == ("bus", "cat")
    assert len(source.images) == len({image.image_id for image in source.images}) == 5
    assert source[-1].pair_id == lines[-1]
    assert [pair.pair_id for pair in source[1:3]] == lines[1:3]
    with pytest.raises(IndexError):
        source[len(source)]


def test_a_record_holds_the_annotation(root: Path) -> None:
    pair = next(p for p in SPair71k(root) if p.pair_id.endswith("-2008_000001-2008_000003:cat"))
    want = annotation("cat", "2008_000003", 2)
    assert pair.trg.size == (want["image_height"], want["image_width"])
    assert pair.trg.box_px == tuple(want["bndbox"])
    assert pck_size_px(pair.trg, "box") == max(52 - 3, 40 - 4)
    assert (pair.src.azimuth, pair.trg.azimuth, pair.azimuth_difference) == (0, 6, 2)
    assert pair.visible.sum() == 8
    np.testing.assert_array_equal(pair.trg.xy_px[9], want["kps"]["9"])
    assert open_rgb(pair.trg.path, pair.trg.size).size == (want["image_width"], want["image_height"])


def test_masks_are_found_where_they_are(root: Path) -> None:
    mask = root / "Segmentation/cat/2008_000002.png"
    mask.parent.mkdir(parents=True)
    Image.new("L", (61, 42)).save(mask)
    assert {image.mask_path for image in SPair71k(root).images} == {None, mask}


def test_categories_and_max_pairs_choose(root: Path) -> None:
    assert {pair.category for pair in SPair71k(root, categories=["cat"])} == {"cat"}
    few = SPair71k(root, max_pairs=4)
    assert len(few) == 4
    assert {pair.category for pair in few} == {"bus", "cat"}, "evenly spaced over the list"
    with pytest.raises(DataError, match=r"categories.*dragon; there are bus, cat"):
        SPair71k(root, categories=["dragon"])
    with pytest.raises(DataError, match="an empty list"):
        SPair71k(root, categories=[])
    with pytest.raises(ValueError, match="max_pairs"):
        SPair71k(root, max_pairs=0)


def test_a_missing_folder_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder; run: geoalign prepare dataset=spair71k"):
        SPair71k(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"dataset=spair_u"):
        SPairU(tmp_path / "nowhere", tmp_path)


def test_a_missing_picture_is_named_at_construction(root: Path) -> None:
    lost = root / "JPEGImages/cat/2008_000003.jpg"
    lost.unlink()
    with pytest.raises(DataError) as caught:
        SPair71k(root)
    assert caught.value.file == str(lost)
    assert len(SPair71k(root, require_images=False)) == 8
    assert len(SPair71k(root, categories=["bus"])) == 2, "pictures of other categories are not missed"


def test_fingerprint_changes_with_content_not_place(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("copy") / "ß other place"
    shutil.copytree(root, elsewhere)
    first = SPair71k(root).fingerprint()
    assert SPair71k(elsewhere).fingerprint() == first
    assert SPair71k(root, max_pairs=7).fingerprint() != first
    document = annotation("bus", "2009_000005", 1)
    document["kps"]["3"][0] += 1
    put(elsewhere / "ImageAnnotation/bus/2009_000005.json", json.dumps(document))
    assert SPair71k(elsewhere).fingerprint() != first


def test_swapped_corners_are_repaired_and_noted(root: Path) -> None:
    document = annotation("cat", "2008_000001") | {"bndbox": [50, 38, 3, 4]}
    put(root / "ImageAnnotation/cat/2008_000001.json", json.dumps(document))
    source = SPair71k(root)
    assert {image.box_px for image in source.images if image.image_id == "cat/2008_000001"} == {(3, 4, 50, 38)}
    assert len(source.notes) == 1
    assert "2008_000001.json: bndbox: swapped corners" in source.notes[0]


def test_the_same_pair_under_two_numbers_is_noted(root: Path) -> None:
    path = root / "Layout/large/test.txt"
    path.write_text(path.read_text() + "000099-2008_000001-2008_000002:cat\n")
    source = SPair71k(root)
    assert len(source) == 9
    assert "1 pairs are listed again" in source.notes[0]


def test_own_mirror_table_wins_over_the_built_in(root: Path) -> None:
    assert SPair71k(root).symmetries["cat"].names[2] == "right_ear_tip"
    assert SPair71k(root, symmetry="none").symmetries == {}
    put(root / "symmetry.yaml", "cat: {names: [a, b], mirror_pairs: [[0, 1]], groups: [[0, 1]], side: [1, 2]}")
    assert SPair71k(root).symmetries["cat"].names == ("a", "b")
    assert "bus" not in SPair71k(root).symmetries, "no table for a category is fine"
    assert SPair71k(root, symmetry="spair71k").symmetries["cat"].names[2] == "right_ear_tip"


def test_pair_files_are_compared_with_the_images(root: Path) -> None:
    source = SPair71k(root)
    assert [problem for i in range(len(source)) for problem in source.check_pair_file(i)] == []
    path = root / "PairAnnotation/test" / f"{source[0].pair_id}.json"
    document = json.loads(path.read_text())
    document["trg_bndbox"][0] += 2
    document["kps_ids"].pop()
    path.write_text(json.dumps(document))
    assert [problem.split(": ")[1] for problem in source.check_pair_file(0)] == ["kps_ids", "trg_bndbox"]
    path.unlink()
    with pytest.raises(DataError, match="readable file"):
        source.check_pair_file(0)


def test_names_with_spaces_and_umlauts_read(tmp_path: Path) -> None:
    lines = write_tree(tmp_path, {"große Katze": ("müde 1", "猫 2")})
    source = SPair71k(tmp_path, symmetry="none")
    assert [pair.pair_id for pair in source] == lines
    assert all(open_rgb(image.path, image.size) for image in source.images)


def test_it_travels_to_workers(root: Path) -> None:
    source = SPair71k(root)
    assert pickle.loads(pickle.dumps(source)).fingerprint() == source.fingerprint()


@pytest.mark.parametrize("prefix", ["", "Extra"])
def test_spair_u_takes_pictures_from_spair71k(
    root: Path, tmp_path_factory: pytest.TempPathFactory, prefix: str
) -> None:
    extra = tmp_path_factory.mktemp("spair_u")
    images = [annotation("cat", f"2008_00000{i + 1}", i) for i in range(2)]
    for document in images:
        put(extra / f"{prefix}ImageAnnotation/cat/{Path(document['filename']).stem}.json", json.dumps(document))
    name = "000001-2008_000001-2008_000002:cat"
    put(extra / f"{prefix}PairAnnotation/test/{name}.json", json.dumps(pair_annotation(1, *images)))
    source = SPairU(extra, images_root=root)
    assert [pair.pair_id for pair in source] == [name]
    assert source.symmetries == {}
    assert source[0].trg.path == root / "JPEGImages/cat/2008_000002.jpg"
    assert source.name == "spair_u"


READ = """
import json, sys, time
from geoalign.data import SPair71k
start = time.process_time()
sizes = {s: len(SPair71k(sys.argv[1], s, symmetry="none", require_images=False)) for s in ("trn", "val", "test")}
print(json.dumps([sizes, time.process_time() - start]))
"""


def test_reading_the_full_size_is_fast(tmp_path: Path) -> None:
    images = {f"category{c:02d}": [f"2008_{c:02d}{i:04d}" for i in range(100)] for c in range(18)}
    for category, names in images.items():
        for i, name in enumerate(names):
            put(tmp_path / f"ImageAnnotation/{category}/{name}.json", json.dumps(annotation(category, name, i % 7)))
    for split, count in FULL.items():
        pairs = [(c, a, b) for c, names in images.items() for a in names for b in names if a != b][:count]
        lines = [f"{n:06d}-{a}-{b}:{c}" for n, (c, a, b) in enumerate(pairs)]
        put(tmp_path / f"Layout/large/{split}.txt", "\n".join(lines))
    # In a process of its own: measuring coverage and checking annotations make it several times slower here.
    told = subprocess.run([sys.executable, "-c", READ, tmp_path], capture_output=True, text=True, check=True)
    sizes, seconds = json.loads(told.stdout)
    assert sizes == FULL
    assert seconds < 5, f"{seconds:.1f} s"
