"""PF-PASCAL and PF-WILLOW: points, thresholds, oddities of their lists, and every broken file."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from helpers.fuzz import every, verdict
from PIL import Image
from scipy.io import savemat

from geoalign.data.readers.pf_pascal import CATEGORIES, PFPascal, read_mat
from geoalign.data.readers.pf_willow import COLUMNS, PFWillow
from geoalign.data.records import DataError, pck_size_px

NAN = float("nan")
KPS = {"2007_1": [[5, 6], [NAN, NAN], [30, 20], [1, 38]], "2007_2": [[15, 9], [3, 3], [22, 12], [NAN, NAN]]}
HEADER = "source_image,target_image,class,XA,YA,XB,YB"
LINES = [
    "PF-dataset-PASCAL/JPEGImages/2007_1.jpg,PF-dataset-PASCAL/JPEGImages/2007_2.jpg,8,5;30,6;20,15;22,9;12",
    "PF-dataset-PASCAL/JPEGImages/2007_2.jpg,PF-dataset-PASCAL/JPEGImages/2007_1.jpg,cat,,,,",
]


def picture(path: Path, size: tuple[int, int] = (60, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 60)).save(path)


@pytest.fixture
def pascal(tmp_path: Path) -> Path:
    for name, points in KPS.items():
        picture(tmp_path / "JPEGImages" / f"{name}.jpg")
        (tmp_path / "Annotations" / "cat").mkdir(parents=True, exist_ok=True)
        bbox = {"bbox": [[50.0, 2, 1, 39]]} if name == "2007_2" else {}
        savemat(tmp_path / "Annotations" / "cat" / f"{name}.mat", {"kps": np.array(points, float), **bbox})
    for split in ("trn", "val", "test"):
        (tmp_path / f"{split}_pairs_pf_pascal.csv").write_text("\n".join([HEADER, *LINES]))
    return tmp_path


def test_pascal_reads_points_by_slot(pascal):
    source = PFPascal(pascal)
    assert [p.pair_id for p in source] == ["cat/2007_1-cat/2007_2:cat", "cat/2007_2-cat/2007_1:cat"]
    first, second = source[0].src, source[0].trg
    assert np.flatnonzero(source[0].visible).tolist() == [0, 2]
    assert first.xy_px[[0, 1, 2]].tolist() == [[5, 6], [0, 0], [30, 20]]
    assert first.box_px == (1, 6, 30, 38)
    assert second.box_px == (1, 2, 50, 39)
    assert any("swapped corners" in note for note in source.notes)
    assert pck_size_px(second, source.threshold) == 60
    assert source[0].azimuth_difference == -1
    assert (source.symmetries, source.categories, len(source.images)) == ({}, ("cat",), 2)
    assert PFPascal(pascal, "train", slots=4).fingerprint() != source.fingerprint()
    assert len(set(CATEGORIES)) == 20
    assert [p.pair_id for p in source[:1]] == [source[0].pair_id]
    assert len(PFPascal(pascal, max_pairs=1)) == 1
    with pytest.raises(ValueError, match="max_pairs"):
        PFPascal(pascal, max_pairs=0)


def test_pascal_training_list_with_mirrored_rows(pascal):
    rows = ["source_image,target_image,class,flip", "2007_1.jpg,2007_2.jpg,8,0", "2007_1.jpg,2007_2.jpg,8,1"]
    (pascal / "trn_pairs_pf_pascal.csv").write_text("\n".join(rows))
    source = PFPascal(pascal, "trn")
    assert len(source) == 1
    assert any("1 mirrored repetitions" in note for note in source.notes)


BAD_ROWS = [
    *(
        "a",
        "a,b",
        ",,,,,,",
        "2007_1.jpg,2007_2.jpg,21,,,,",
        "2007_1.jpg,2007_2.jpg,0,,,,",
        "2007_1.jpg,2007_2.jpg,,,,,",
    ),
    *("2007_1.jpg,2007_2.jpg,dragon,,,,", "..,2007_2.jpg,8,,,,", "2007_1.jpg,a\\..,8,,,,", ",2007_2.jpg,8,,,,"),
    *("2007_1.jpg,2007_1.jpg,8,,,,", LINES[0], "2007_1.jpg,missing.jpg,8,,,,", "2007_1.jpg,2007_2.jpg,dog,,,,"),
    *('"2007_1.jpg,2007_2.jpg,8,,,,', "2007_1.jpg,2007_2.jpg,8,,,,,", "2007_1.jpg,2007_2.jpg,٨,,,,", "\0,b,8,,,,"),
]


def test_pascal_broken_rows(pascal):
    path = pascal / "test_pairs_pf_pascal.csv"
    files = [pascal / "Annotations" / kind / f"{name}.mat" for kind in ("cat", "dog") for name in ("missing", "2007_1")]

    def check(row):
        path.write_text("\n".join([HEADER, *LINES, row]))
        result = verdict(lambda: PFPascal(pascal), path, *files)
        assert isinstance(result, DataError) or (not row.strip(" ,") and len(result) == 2)  # a blank line is no row

    every(BAD_ROWS, check)


@pytest.mark.parametrize("header", ["", "source_image", HEADER.replace("class", "kind"), HEADER + ",class", "\n\n"])
def test_pascal_broken_headers(pascal, header):
    path = pascal / "val_pairs_pf_pascal.csv"
    path.write_text("\n".join([header, *LINES]) if header else "")
    assert isinstance(verdict(lambda: PFPascal(pascal, "val"), path), DataError)


WRONG_KPS = [
    {"points": [[1, 2]]}, {"kps": "text"}, {"kps": [1, 2, 3]}, {"kps": [[NAN, 3]]}, {"kps": [[1e7, 3]]},
    {"kps": [[-90, 3]]}, {"kps": [[3, 90]]},
    {"kps": [[float("inf"), 3]]}, {"kps": np.ones((21, 2))}, {"kps": np.ones((2, 2, 2))}, {"kps": [[1 + 2j, 3]]},
    {"kps": [[1, 2]], "bbox": [[1, 2, 3]]}, {"kps": [[1, 2]], "bbox": [[5, 5, 5, 9]]}, {"kps": [[1, 2]], "bbox": "x"},
    {"kps": [[1, 2]], "bbox": [[NAN, 2, 3, 4]]}, {"kps": [[1, 2]], "bbox": [[0, 0, 900, 4]]}, {"kps": {"a": 1}},
]  # fmt: skip


@pytest.mark.parametrize("variables", WRONG_KPS, ids=str)
def test_pascal_wrong_annotations(pascal, variables):
    path = pascal / "Annotations" / "cat" / "2007_1.mat"
    savemat(path, variables)
    assert isinstance(verdict(lambda: PFPascal(pascal), path), DataError)


def test_damaged_mat_files(pascal):
    path = pascal / "Annotations" / "cat" / "2007_1.mat"
    whole = path.read_bytes()

    def check(case):
        rng, data = random.Random(case), bytearray(whole)
        if case % 2:
            data = data[: rng.randrange(len(data))]
        else:
            for _ in range(rng.randint(1, 8)):
                data[rng.randrange(128, len(data))] = rng.randrange(256)
        path.write_bytes(data)
        result = verdict(lambda: PFPascal(pascal), path)
        assert isinstance(result, DataError) or len(result) == 2

    every(range(40), check)
    path.write_bytes(b"")
    assert isinstance(verdict(lambda: read_mat(path), path), DataError)


def test_missing_and_mismatched_pictures(pascal):
    picture = pascal / "JPEGImages" / "2007_1.jpg"
    picture.write_bytes(b"")
    assert isinstance(verdict(lambda: PFPascal(pascal), picture), DataError)
    picture.unlink()
    assert isinstance(verdict(lambda: PFPascal(pascal), picture), DataError)
    with pytest.raises(ValueError, match="split is train"):
        PFPascal(pascal, "dev")


def willow_row(a: str, b: str, points: dict[str, list[tuple[float, float]]]) -> str:
    cells = [f"PF-dataset/{a}", f"PF-dataset/{b}"]
    for image in (a, b):
        cells += [f"{x:g}" for x, _ in points[image]] + [f"{y:g}" for _, y in points[image]]
    return ",".join(cells)


NAMES = ("car(S)/60_0000.png", "car(S)/60_0001.png", "duck(S)/1 ü.png")
POINTS = {name: [(3 * i + seed, 2 * i + 5) for i in range(10)] for seed, name in enumerate(NAMES)}
WILLOW_HEADER = ",".join(("imageA", "imageB", *COLUMNS))
ROWS = [willow_row(NAMES[0], NAMES[1], POINTS), willow_row(NAMES[1], NAMES[0], POINTS)]


@pytest.fixture
def willow(tmp_path: Path) -> Path:
    for name in NAMES:
        picture(tmp_path / name)
    (tmp_path / "test_pairs.csv").write_text("\n".join([WILLOW_HEADER, *ROWS]))
    return tmp_path


def test_willow_reads_pairs_and_extent_threshold(willow):
    source = PFWillow(willow)
    assert [p.pair_id for p in source] == [
        "car(S)/60_0000-car(S)/60_0001:car(S)",
        "car(S)/60_0001-car(S)/60_0000:car(S)",
    ]
    assert source[0].src.xy_px.tolist() == [list(map(float, p)) for p in POINTS[NAMES[0]]]
    assert source[0].trg.box_px == (1, 5, 28, 23)
    assert pck_size_px(source[0].trg, source.threshold) == 27
    assert pck_size_px(source[0].trg, PFWillow(willow, threshold="image").threshold) == 60
    assert source.notes == ()
    (willow / "test_pairs.csv").rename(willow / "test_pairs_pf.csv")
    assert PFWillow(willow).fingerprint() == source.fingerprint()
    with pytest.raises(ValueError, match="test split only"):
        PFWillow(willow, "val")


def test_willow_absent_points_and_second_set(willow):
    other = {**POINTS, NAMES[0]: [(NAN, NAN), *POINTS[NAMES[0]][1:]]}
    row = willow_row(NAMES[0], NAMES[1], other)
    (willow / "test_pairs.csv").write_text("\n".join([WILLOW_HEADER, *ROWS, row]))
    source = PFWillow(willow)
    assert source[2].src.image_id == "car(S)/60_0000#2"
    assert source[2].visible.tolist() == [False, *[True] * 9]
    assert source[2].src.path == source[0].src.path
    assert any("#2" in note for note in source.notes)


CELLS = [
    "",
    "x",
    "nan",
    "inf",
    "-inf",
    "1e7",
    "-500",
    "1e400",
    "1;2",
    "٣",
    "..",
    "../../etc/passwd",
    "a/b/c.png",
    "/",
    "a",
]


@pytest.mark.parametrize("column", [0, 1, 2, 25, 41])
def test_willow_broken_cells(willow, column):
    path = willow / "test_pairs.csv"

    def check(cell):
        cells = willow_row(NAMES[1], NAMES[0], POINTS).split(",")
        cells[column] = cell
        path.write_text("\n".join([WILLOW_HEADER, ROWS[0], ",".join(cells)]))
        result = verdict(lambda: PFWillow(willow), path, willow / "b" / "c.png")
        assert isinstance(result, DataError) or (column > 1 and cell in "٣" and len(result) == 2)

    every(CELLS, check)


@pytest.mark.parametrize(
    "row", [ROWS[0], willow_row(NAMES[0], NAMES[0], POINTS), willow_row(NAMES[0], NAMES[2], POINTS)]
)
def test_willow_impossible_pairs(willow, row):
    path = willow / "test_pairs.csv"
    path.write_text("\n".join([WILLOW_HEADER, *ROWS, row]))
    assert isinstance(verdict(lambda: PFWillow(willow), path), DataError)
