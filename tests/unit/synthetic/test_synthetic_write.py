"""Writing the synthetic benchmark: layouts, determinism, and all or nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geoalign.data import Synthetic
from geoalign.data.readers.ap10k import AP10K
from geoalign.data.records import DataError
from geoalign.synthetic import default_root, show, write_ap10k, write_synthetic
from geoalign.synthetic import scene as scenes
from geoalign.synthetic.jobs import Job
from geoalign.synthetic.once import MARKER, content_hash, write_once
from geoalign.synthetic.species import CATEGORIES, symmetry

COUNTS = {"images": {"trn": 3, "val": 2, "test": 4}, "pairs": {"trn": 4, "val": 9, "test": 5}}
TWO = ("cat", "car")


@pytest.fixture(scope="module", autouse=True)
def small():
    patch = pytest.MonkeyPatch()
    patch.setattr(scenes, "SIZES", ((48, 64), (64, 56)))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("a") / "data", 0, **COUNTS, categories=TWO, progress=False)


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def annotations(root: Path, split: str = "") -> list[dict]:
    return [read(path) for path in sorted(root.glob(f"ImageAnnotation/*/*_{split}*.json"))]


def test_a_seed_gives_the_same_bytes_in_any_order_and_another_seed_others(root: Path, tmp_path: Path) -> None:
    again = write_synthetic(tmp_path / "b", 0, **COUNTS, categories=TWO[::-1], workers=1, progress=False)
    other = write_synthetic(tmp_path / "c", 1, **COUNTS, categories=TWO, progress=False)
    assert content_hash(again) == content_hash(root) == read(root / MARKER)["sha256"]
    pictures = {path.name: path.read_bytes() for path in root.glob("JPEGImages/*/*.jpg")}
    assert not set(pictures.values()) & {path.read_bytes() for path in other.glob("JPEGImages/*/*.jpg")}


def test_a_larger_set_begins_with_the_smaller_ones_pictures(root: Path, tmp_path: Path) -> None:
    more = {"trn": 0, "val": 0, "test": 1}
    few = write_synthetic(tmp_path / "few", 0, more, more, ("car",), progress=False)
    name = "JPEGImages/car/car_test_0000.jpg"
    assert (few / name).read_bytes() == (root / name).read_bytes()


def test_splits_share_no_picture_and_no_shape(root: Path) -> None:
    pictures = [path.read_bytes() for path in root.glob("JPEGImages/*/*.jpg")]
    assert len(pictures) == len(set(pictures)) == 2 * 9
    points = [json.dumps(note["kps"]) for note in annotations(root)]
    assert len(set(points)) == len(points)
    names = [{n["filename"] for n in annotations(root, split)} for split in ("trn", "val", "test")]
    assert [len(n) for n in names] == [6, 4, 8]


def test_the_real_reader_reads_it(root: Path, tmp_path: Path) -> None:
    settings = {**COUNTS, "categories": TWO, "progress": False}
    data = Synthetic(tmp_path, "test", **settings)
    assert data.notes == ()
    assert data.categories == ("car", "cat")
    assert len(data) == read(data.root / MARKER)["pair_count"]["test"] == 10
    for index, pair in enumerate(data):
        assert pair.visible.sum() >= 3
        assert pair.src.image_id != pair.trg.image_id
        assert data.check_pair_file(index) == []
    assert {c: data.symmetries[c] for c in TWO} == {c: symmetry(c) for c in TWO}
    assert len(Synthetic(tmp_path, "val", **settings)) == 4  # all ordered pairs of two images each
    record = data.images[0]
    mask = np.asarray(Image.open(record.mask_path))
    assert mask.shape == record.size == Image.open(record.path).size[::-1]
    x1, y1, x2, y2 = record.box_px  # 1-based, inclusive
    rows, columns = np.nonzero(mask)
    assert (x1, y1, x2, y2) == (columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1)


def test_a_damaged_folder_says_how_to_mend_it(tmp_path: Path) -> None:
    one = {"trn": 0, "val": 0, "test": 2}
    settings = {"images": one, "pairs": one, "categories": ("car",), "progress": False}
    data = Synthetic(tmp_path, "test", **settings)
    data.images[0].path.unlink()
    with pytest.raises(DataError, match=r"delete .* written anew"):
        Synthetic(tmp_path, "test", **settings)


def test_keys_are_the_official_ones(root: Path, shared: Path) -> None:
    sample = shared / "data" / "spair-mini"
    for pattern in ("ImageAnnotation/*/*.json", "PairAnnotation/test/*.json"):
        ours, official = (read(next(place.glob(pattern))) for place in (root, sample))
        assert list(ours) == list(official)
        assert {k: type(v) for k, v in ours.items()} == {k: type(v) for k, v in official.items()}
    assert list(read(next(root.glob("ImageAnnotation/*/*.json")))["kps"]) == [str(i) for i in range(30)]


def test_pair_facts_follow_from_the_images(root: Path) -> None:
    notes = {note["filename"]: note for note in annotations(root)}
    for path in root.glob("PairAnnotation/*/*.json"):
        pair = read(path)
        src, trg = notes[pair["src_imname"]], notes[pair["trg_imname"]]
        steps = abs(src["azimuth_id"] - trg["azimuth_id"])
        assert pair["viewpoint_variation"] == min(steps, 8 - steps, 2)
        assert pair["truncation"] == src["truncated"] + 2 * trg["truncated"]
        assert [src["kps"][i] for i in pair["kps_ids"]] == pair["src_kps"]
        assert pair["filename"] == path.stem
    listed = (root / "Layout/large/test.txt").read_text().split()
    assert sorted(listed) == sorted(path.stem for path in (root / "PairAnnotation/test").iterdir())


def test_a_complete_folder_is_reused_without_rendering(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Job, "picture", lambda job: pytest.fail("rendered again"))
    assert write_synthetic(root, 0, **COUNTS, categories=TWO, progress=False) == root


def test_other_settings_and_foreign_folders_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match=r"other settings \(seed=0\); choose another root"):
        write_synthetic(root, 7, **COUNTS, categories=TWO, progress=False)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not a complete synthetic data set"):
        write_synthetic(tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_write_leaves_nothing(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Job.picture

    def stop(job: Job):
        if job.split == "test":
            raise error("stopped")
        return honest(job)

    monkeypatch.setattr(Job, "picture", stop)
    one = {"trn": 1, "val": 0, "test": 1}
    with pytest.raises(error, match="stopped"):
        write_synthetic(tmp_path / "deep" / "data", 0, one, one, ("car",), workers=1, progress=False)
    assert list((tmp_path / "deep").iterdir()) == []


def test_the_slower_of_two_writers_takes_the_others_folder(tmp_path: Path) -> None:
    def late(draft: Path) -> dict:
        write_once(tmp_path / "data", {"seed": 0}, early)
        return early(draft)

    def early(draft: Path) -> dict:
        (draft / "file").write_text("same")
        return {}

    assert write_once(tmp_path / "data", {"seed": 0}, late) == tmp_path / "data"
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_roots_are_named_by_their_settings(tmp_path: Path) -> None:
    roots = {default_root(tmp_path, seed=seed, images={"trn": n}) for seed in (0, 1) for n in (1, 2)}
    assert len(roots) == 4
    assert default_root(tmp_path, images={"trn": 1}, seed=0) in roots


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"categories are some of cat, .* got \['dog'\]"):
        write_synthetic(tmp_path / "x", categories=["dog"])
    with pytest.raises(ValueError, match="images counts trn, val, test per category"):
        write_synthetic(tmp_path / "x", images={"train": 3})
    with pytest.raises(ValueError, match="counts of train, val, test"):
        write_ap10k(tmp_path / "x", images={"trn": 3})
    assert not (tmp_path / "x").exists()


def test_ap10ks_layout_is_read_by_its_reader(tmp_path: Path) -> None:
    root = write_ap10k(tmp_path / "ap", 0, {"train": 2, "val": 1, "test": 2}, ("cat", "cow"), progress=False)
    for split, count in (("train", 4), ("val", 2), ("test", 4)):
        document = read(root / "annotations" / f"ap10k-{split}-split1.json")
        assert len(document["images"]) == len(document["annotations"]) == count
        assert {a["category_id"] for a in document["annotations"]} == {1, 3}
        for animal in document["annotations"]:
            assert animal["num_keypoints"] == sum(v == 2 for v in animal["keypoints"][2::3])
    pairs = AP10K(root, "test", "all_pairs", crowd_sha256=None)
    assert {record.category for record in pairs.images} == {"cat", "cow"}
    intra = AP10K(root, "test", crowd_sha256=None)  # the benchmark's own split: all six animals are test animals
    assert len(intra.images) > 0


def test_ap10ks_keys_are_the_official_ones(tmp_path: Path, shared: Path) -> None:
    root = write_ap10k(tmp_path / "ap", 0, {"train": 0, "val": 0, "test": 1}, ("horse",), progress=False)
    path = "annotations/ap10k-test-split1.json"
    ours, official = read(root / path), read(shared / "data" / "ap10k-sample" / path)
    for part in ("images", "annotations", "categories"):
        assert list(ours[part][0]) == list(official[part][0])
    assert ours["categories"][0]["skeleton"] == official["categories"][0]["skeleton"]
    assert ours["categories"][0]["keypoints"] == official["categories"][0]["keypoints"]


def test_the_sheet_shows_every_category(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    show.main(["sheet.png", "--columns", "1", "--labels"])
    assert Image.open("sheet.png").height == len(CATEGORIES) * Image.open("sheet.png").width


def test_importing_the_package_loads_no_renderer() -> None:
    code = "import sys, geoalign.synthetic as s; print(any(m in sys.modules for m in ('numpy', 'torch', 'PIL')))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert told.stdout.strip() == "False"
    with pytest.raises(AttributeError, match="there are write_synthetic"):
        _ = __import__("geoalign.synthetic", fromlist=["nothing"]).nothing
