"""Verification: a sound tree passes, every kind of damage is named, oddities are reported and do not fail."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ap10k_tree import documents
from ap10k_tree import write as write_ap10k
from helpers.flow import write_flow
from helpers.spair_tree import write_tree
from PIL import Image
from scipy.io import savemat

from geoalign.data.prepare import verify as verifying
from geoalign.data.prepare.checks import check_image, check_pairs
from geoalign.data.prepare.datasets import find
from geoalign.data.prepare.report import Count, Report
from geoalign.data.prepare.verify import verify
from geoalign.data.records import ImageRecord, PairRecord, PairSource


def run(root: Path, name: str = "spair71k", counts: str = "any", **options: str) -> Report:
    return verify(find(name), root, options, counts=counts, workers=1, progress=False)


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def edit(path: Path, **changes: Any) -> None:
    put(path, json.dumps(json.loads(path.read_text()) | changes))


CAT = "ImageAnnotation/cat/2008_000001.json"
PAIR = "PairAnnotation/test/000001-2008_000001-2008_000002:cat.json"
PHOTO = "JPEGImages/cat/2008_000001.jpg"


def test_a_sound_tree_passes(tmp_path: Path) -> None:
    write_tree(tmp_path)
    report = run(tmp_path)
    assert report.exit_code == 0, report.text()
    assert "test pairs                           8" in report.text()
    assert "result: sound" in report.text()


def test_counts_are_compared_with_the_published_ones(tmp_path: Path) -> None:
    for split in ("trn", "val", "test"):
        write_tree(tmp_path, split=split)
    report = run(tmp_path, counts="published")
    assert report.exit_code == 1
    assert {error.kind for error in report.errors} == {"count"}
    assert "test pairs                           8      12,234  WRONG" in report.text()
    assert "test pairs: should be 12,234, got 8" in report.text()
    assert "x image of test and trn and val" in report.text()


def test_missing_splits_fail_unless_parts_will_do(tmp_path: Path) -> None:
    write_tree(tmp_path)
    errors = {error.kind for error in run(tmp_path, counts="published").errors}
    assert {"trn", "val", "count"} == errors
    shutil.rmtree(tmp_path / "Layout")
    assert run(tmp_path).exit_code == 1, "a folder without any part is not sound"
    assert "geoalign prepare" in run(tmp_path).text()


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated annotation": (lambda r: put(r / CAT, '{"filename": '), "valid JSON"),
    "key missing": (lambda r: put(r / CAT, "{}"), "category: expected the field to be present"),
    "wrong type": (lambda r: edit(r / CAT, bndbox="x"), "bndbox: expected a list of 4"),
    "azimuth out of range": (lambda r: edit(r / CAT, azimuth_id=9), "azimuth_id: expected a whole number in 0..7"),
    "point far outside": (
        lambda r: edit(r / CAT, kps={str(k): [9000, 3] for k in range(30)}),
        "kps.0: expected a point",
    ),
    "photo missing": (
        lambda r: (r / PHOTO).unlink(),
        "2008_000001.jpg: file: expected a readable file, got no such file",
    ),
    "photo of another size": (lambda r: Image.new("RGB", (8, 9)).save(r / PHOTO), "as annotated, got 9x8"),
    "photo truncated": (lambda r: (r / PHOTO).write_bytes((r / PHOTO).read_bytes()[:300]), "2008_000001.jpg"),
    "pair file missing": (lambda r: (r / PAIR).unlink(), "000001-2008_000001-2008_000002:cat.json"),
    "pair box differs": (lambda r: edit(r / PAIR, src_bndbox=[1, 1, 2, 2]), "src_bndbox: the pair says [1, 1, 2, 2]"),
    "pair points differ": (lambda r: edit(r / PAIR, kps_ids=["0"]), "kps_ids: the pair says ['0']"),
    "pair size differs": (lambda r: edit(r / PAIR, trg_imsize=[5, 5, 3]), "trg_imsize: the pair says [5, 5]"),
    "unused annotation broken": (lambda r: put(r / "ImageAnnotation/cat/extra.json", "[]"), "extra.json"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_with_its_file(name: str, tmp_path: Path) -> None:
    damage, message = DAMAGE[name]
    write_tree(tmp_path)
    damage(tmp_path)
    report = run(tmp_path)
    assert report.exit_code == 1
    assert message in report.text()
    assert str(tmp_path) in report.text()


ODD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "point outside the box": (lambda r: edit(r / CAT, bndbox=[8, 8, 40, 30]), "keypoint outside the box, as cat/2008"),
    "box beyond the image": (lambda r: edit(r / CAT, bndbox=[-3, 1, 60, 40]), "box beyond the image"),
    "swapped corners": (lambda r: edit(r / CAT, bndbox=[50, 38, 3, 4]), "1 x repaired while reading"),
    "stray pair file": (lambda r: put(r / PAIR.replace("000001-", "999-"), "{}"), "pair file that is not listed"),
    "no pair files": (lambda r: shutil.rmtree(r / "PairAnnotation"), "no pair files to compare"),
}


@pytest.mark.parametrize("name", ODD)
def test_oddities_are_reported_and_do_not_fail(name: str, tmp_path: Path) -> None:
    oddity, message = ODD[name]
    write_tree(tmp_path)
    oddity(tmp_path)
    report = run(tmp_path)
    assert message in report.text()
    assert not [error for error in report.errors if error.kind != "pair annotation"], report.text()


def test_a_point_outside_the_image_is_an_oddity(tmp_path: Path) -> None:
    write_tree(tmp_path)
    points = json.loads((tmp_path / CAT).read_text())["kps"]
    edit(tmp_path / CAT, kps=points | {"0": [-4, 5]})
    assert "1 x keypoint outside the image, as cat/2008_000001 by 4.0 px" in run(tmp_path).text()


def test_masks_must_fit_too(tmp_path: Path) -> None:
    write_tree(tmp_path)
    mask = tmp_path / "Segmentation/cat/2008_000001.png"
    mask.parent.mkdir(parents=True)
    Image.new("L", (60, 40)).save(mask)
    assert "1 x empty mask" in run(tmp_path).text()
    Image.new("L", (3, 3)).save(mask)
    assert "2008_000001.png: size: expected 40x60" in run(tmp_path).text()


def test_real_annotations_without_pictures(shared: Path) -> None:
    """41 real annotations and 150 pairs agree; only the pictures are missing."""
    report = run(shared / "data" / "spair-mini")
    assert {error.kind for error in report.errors} == {"image"}
    assert len(report.errors) == 41
    assert "3 x keypoint outside the box" in report.text()


def test_two_processes_find_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path)
    edit(tmp_path / PAIR, src_bndbox=[1, 1, 2, 2])
    (tmp_path / PHOTO).unlink()
    one = run(tmp_path)
    monkeypatch.setattr(verifying, "IN_ONE_PROCESS", 5)
    two = verify(find("spair71k"), tmp_path, counts="any", workers=2, progress=False)
    assert two.text() == one.text()


def test_ap10k_counts_families_and_species(tmp_path: Path, shared: Path) -> None:
    root = write_ap10k(tmp_path / "ap10k", documents(2000, extra=20), [])
    shutil.copy(shared / "data/ap10k-sample/is_crowd.txt", root)
    text = run(root, "ap10k", counts="published").text()
    assert "annotated images                 2,000      10,015  WRONG" in text
    assert "families                            23          23  ok" in text
    assert "species                             54          54  ok" in text
    assert "train intra_species pairs" in text
    assert "val pairs, all" in text
    assert "expected a readable file, got no such file" in text


def write_pascal(root: Path) -> Path:
    for name in ("1", "2"):
        savemat(put(root / f"Annotations/cat/{name}.mat", ""), {"kps": np.array([[4.0, 5], [np.nan, np.nan], [20, 9]])})
        Image.new("RGB", (30, 20)).save(put(root / f"JPEGImages/{name}.jpg", ""))
    put(root / "test_pairs_pf_pascal.csv", "source_image,target_image,class\n1.jpg,2.jpg,8\n")
    return root


def test_pf_pascal_checks_every_annotation(tmp_path: Path) -> None:
    root = write_pascal(tmp_path)
    assert run(root, "pf_pascal").exit_code == 0, run(root, "pf_pascal").text()
    assert {"train", "val", "count"} == {error.kind for error in run(root, "pf_pascal", counts="published").errors}
    savemat(root / "Annotations/cat/unused.mat", {"kps": np.zeros((3, 3))})
    put(root / "Annotations/cat/broken.mat", "not matlab")
    text = run(root, "pf_pascal").text()
    assert "unused.mat: kps should be numbers (n 2), got float64 (3, 3)" in text
    assert "broken.mat: file: expected a MATLAB file" in text


def test_tss_is_verified_without_writing_into_it(tmp_path: Path) -> None:
    folder = tmp_path / "FG3DCar" / "pair"
    folder.mkdir(parents=True)
    for i in ("1", "2"):
        Image.new("RGB", (30, 20)).save(folder / f"image{i}.png")
        Image.new("L", (30, 20), 255).save(folder / f"mask{i}.png")
        write_flow(folder / f"flow{i}.flo", np.zeros((20, 30, 2), np.float32))
    put(folder / "flip_gt.txt", "1")
    before = sorted(tmp_path.rglob("*"))
    report = run(tmp_path, "tss")
    assert report.exit_code == 0, report.text()
    assert "test pairs                           2" in report.text()
    assert sorted(tmp_path.rglob("*")) == before


class Listed(PairSource):
    """Pairs given as they are."""

    name, split, threshold, slots, categories, symmetries = "listed", "test", "box", 3, ("cat",), {}

    def __init__(self, pairs: list[PairRecord]) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: Any) -> Any:
        return self.pairs[index]


def record(**changes: Any) -> ImageRecord:
    xy = np.array([[2, 2], [5, 5], [0, 0]], np.float32)
    usual = ImageRecord("a", Path("a.png"), (9, 9), "cat", xy, np.array([True, True, False]), (1, 1, 8, 8))
    return usual._replace(**changes)


def test_pairs_are_checked_one_by_one_and_together() -> None:
    a, b = record(), record(image_id="b")
    hidden = record(image_id="c", visible=np.zeros(3, bool))
    pairs = [PairRecord("1", a, b, "cat"), PairRecord("1", a, b, "cat"), PairRecord("2", a, a, "cat")]
    pairs += [PairRecord("3", a, hidden, "cat"), PairRecord("4", a, record(box_px=(3, 3, 3, 3)), "cat")]
    found = check_pairs(Listed(pairs))
    assert sorted((finding.severity, finding.where) for finding in found) == [
        ("error", "1"), ("error", "4"), ("oddity", "2"), ("oddity", "3"), ("oddity", "4"),
        ("oddity", "a > a"), ("oddity", "a > b"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"xy_px": np.full((3, 2), np.nan, np.float32)}, "keypoints"),
        ({"xy_px": np.ones((3, 2), np.float32)}, "keypoints"),
        ({"xy_px": np.ones((4, 2), np.float32)}, "keypoints"),
        ({"box_px": (5, 1, 5, 8)}, "box"),
        ({"box_px": (1, 1, float("nan"), 8)}, "box"),
        ({"azimuth": 8}, "azimuth"),
    ],
)
def test_values_no_reader_should_give(changes: dict[str, Any], kind: str) -> None:
    assert kind in {finding.kind for finding in check_image(record(**changes)) if finding.severity == "error"}


@pytest.mark.parametrize(
    ("found", "nearest", "agrees"),
    [(5384, 1, True), (5383, 1, False), (5385, 1, False), (5884, 1000, True), (4880, 1000, False)],
)
def test_published_counts_may_be_rounded(found: int, nearest: int, agrees: bool) -> None:
    count = Count("pairs", found, 5384, nearest)
    assert count.agrees == agrees
    assert ("ok" in count.line()) == agrees


def test_many_errors_of_a_kind_are_cut_short(tmp_path: Path) -> None:
    write_tree(tmp_path)
    for at in range(30):
        put(tmp_path / f"ImageAnnotation/cat/broken_{at}.json", "{")
    text = run(tmp_path).text()
    assert "errors: 30" in text
    assert "annotation: ... and 22 more" in text
