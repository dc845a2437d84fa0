"""People's own folders: keypoint files of three kinds, splits, draws, and everything that can be wrong in them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.fuzz import Mutation, every, json_mutations, verdict
from PIL import Image

from geoalign.data.readers.folder import ImageFolder
from geoalign.data.records import DataError

POINTS = {
    "cup/a.jpg": {"rim": [5, 6], "left handle": [9, 9], "right handle": None},
    "cup/b ö.png": {"left handle": [20, 9], "rim": [15, 6], "right handle": [3, 4]},
    "shoe/c.jpg": {"toe": [1, 1], "heel": [59, 39]},
    "shoe/d.jpg": {"heel": [50, 30], "toe": None},
}
CSV = ["image,keypoint,x,y,visible"] + [
    f"{image},{name},{(p or ['', ''])[0]},{(p or ['', ''])[1]},{int(p is not None)}"
    for image, points in POINTS.items()
    for name, p in points.items()
]
TABLE = """
cup:
  names: [left handle, right handle, rim]
  mirror_pairs: [[0, 1]]
  groups: [[0, 1]]
  side: [1, 2, 0]
"""


def coco() -> dict:
    names = ["rim", "left handle", "right handle"]
    objects = [(i, image) for i, image in enumerate(POINTS, 1) if image.startswith("cup")]
    return {
        "images": [{"id": i, "file_name": image} for i, image in objects],
        "annotations": [
            {
                **{"id": 10 + i, "image_id": i, "category_id": 3, "bbox": [1, 2, 30, 20]},
                "keypoints": [v for n in names for v in ([*POINTS[image][n], 2] if POINTS[image][n] else [0, 0, 0])],
            }
            for i, image in objects
        ],
        "categories": [{"id": 3, "name": "mug", "keypoints": names}],
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "my photos"
    for image in POINTS:
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), (90, 120, 60)).save(root / image)
    (root / "points.csv").write_text("\n".join(CSV))
    (root / "points.json").write_text(json.dumps(POINTS))
    (root / "mirror.yaml").write_text(TABLE)
    return root


def test_images_alone(root):
    source = ImageFolder(root)
    assert [p.pair_id for p in source] == [
        *("cup/a.jpg-cup/b ö.png:cup", "cup/b ö.png-cup/a.jpg:cup"),
        *("shoe/c.jpg-shoe/d.jpg:shoe", "shoe/d.jpg-shoe/c.jpg:shoe"),
    ]
    assert not source[0].visible.any()
    assert source[0].src.box_px == (0, 0, 60, 40)
    assert (source.symmetries, source.categories, source.threshold) == ({}, ("cup", "shoe"), "image")
    assert ImageFolder(root / "cup", category="tea")[0].category == "tea"


def test_csv_and_json_say_the_same(root):
    by_csv, by_json = ImageFolder(root, keypoints="points.csv"), ImageFolder(root, keypoints="points.json")
    assert by_csv.fingerprint() == by_json.fingerprint()
    assert by_csv.slots == 3
    cups = by_csv[0]
    assert cups.src.xy_px.tolist() == [[5, 6], [9, 9], [0, 0]]
    assert cups.trg.xy_px.tolist() == [[15, 6], [20, 9], [3, 4]]
    assert cups.visible.tolist() == [True, True, False]
    assert by_csv[2].visible.tolist() == [False, True, False]
    assert len(ImageFolder(root, keypoints="points.csv", min_common=2)) == 2


def test_mirror_table_orders_slots(root):
    source = ImageFolder(root, keypoints="points.csv", symmetry="mirror.yaml")
    assert source[0].trg.xy_px.tolist() == [[20, 9], [3, 4], [15, 6]]
    assert source.symmetries["cup"].permutation(3).tolist() == [1, 0, 2]
    assert "shoe" not in source.symmetries
    names = ["rim", "right handle", "left handle", "toe", "heel"]
    named = ImageFolder(root, keypoints="points.csv", categories=["cup"], names=names)
    assert (named.slots, named[0].trg.xy_px[1].tolist()) == (5, [3, 4])
    with pytest.raises(DataError, match="a keypoint of shoe"):
        ImageFolder(root, keypoints="points.csv", names=names[:3])


def test_coco_with_boxes(root):
    (root / "coco.json").write_text(json.dumps(coco()))
    source = ImageFolder(root, keypoints="coco.json", threshold="box")
    assert source.categories == ("mug",)
    assert source[0].src.box_px == (1, 2, 31, 22)
    assert source[0].src.xy_px.tolist() == [[5, 6], [9, 9], [0, 0]]
    assert sum("left out" in note for note in source.notes) == 2


WRONG_COCO = [
    ("annotations", {"image_id": 9}), ("annotations", {"category_id": 9}), ("annotations", {"bbox": [1, 2, -3, 4]}),
    ("annotations", {"keypoints": [1, 2, 3] * 3}), ("categories", {"keypoints": []}), ("images", {"id": 2}),
    ("categories", {"keypoints": ["a", "a", "b"]}), ("images", {"file_name": "cup/b ö.png"}),
    ("annotations", {"bbox": [1, 2, 3, 900]}),
]  # fmt: skip


@pytest.mark.parametrize(("part", "change"), WRONG_COCO, ids=str)
def test_wrong_coco(root, part, change):
    document = coco()
    document[part][0].update(change)
    path = root / "coco.json"
    path.write_text(json.dumps(document))
    assert isinstance(verdict(lambda: ImageFolder(root, keypoints="coco.json"), path), DataError)


def test_wrong_split_names(root):
    rows = [CSV[0] + ",split", *(f"{row},{'dev' if row.startswith('shoe/d') else 'train'}" for row in CSV[1:])]
    path = root / "points.csv"
    path.write_text("\n".join(rows))
    assert isinstance(verdict(lambda: ImageFolder(root, "train", "points.csv"), path), DataError)
    path.write_text("\n".join([*rows[:-1], rows[-1].replace("dev", "val")]))
    assert isinstance(verdict(lambda: ImageFolder(root, "train", "points.csv"), path), DataError)


def test_slot_numbers_stay_slots(root):
    (root / "n.json").write_text(json.dumps({"cup/a.jpg": {"3": [1, 2], "0": [3, 4]}, "cup/b ö.png": {"3": [5, 6]}}))
    pair = ImageFolder(root, keypoints="n.json")[0]
    assert pair.visible.tolist() == [False, False, False, True]


def many(root: Path, count: int = 40) -> Path:
    for i in range(count):
        Image.new("RGB", (8, 8)).save(root / f"{i}.png")
    return root


def test_splits_are_disjoint_stable_and_complete(tmp_path):
    many(tmp_path)
    options = {"fractions": [0.5, 0.2, 0.3], "seed": 3}
    parts = {
        split: {i.image_id for i in ImageFolder(tmp_path, split, **options).images}
        for split in ("train", "val", "test")
    }
    assert [len(parts[split]) for split in ("train", "val", "test")] == [20, 8, 12]
    assert set.union(*parts.values()) == {i.image_id for i in ImageFolder(tmp_path).images}
    again = ImageFolder(tmp_path, "val", **options)
    assert {i.image_id for i in again.images} == parts["val"]
    assert {i.image_id for i in ImageFolder(tmp_path, "val", fractions=[0.5, 0.2, 0.3], seed=4).images} != parts["val"]
    for wrong in ({"split": "dev"}, {"fractions": [0.5, 0.6, 0.2]}, {"fractions": [1.0]}):
        with pytest.raises(ValueError, match="fractions sum to 1"):
            ImageFolder(tmp_path, **wrong)


def test_draw_is_seeded_and_without_replacement(tmp_path):
    many(tmp_path, 20)
    all_pairs = {p.pair_id for p in ImageFolder(tmp_path)}
    assert len(all_pairs) == 20 * 19
    drawn = [[p.pair_id for p in ImageFolder(tmp_path, max_pairs=50, seed=seed)] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 50
    assert set(drawn[0]) <= all_pairs


def test_split_column(root):
    rows = [CSV[0] + ",split", *(f"{row},{'test' if row.startswith('cup') else 'train'}" for row in CSV[1:])]
    (root / "points.csv").write_text("\n".join(rows))
    assert ImageFolder(root, "test", "points.csv").categories == ("cup",)
    assert ImageFolder(root, "train", "points.csv").categories == ("shoe",)
    with pytest.raises(DataError, match="at least one pair"):
        ImageFolder(root, "val", "points.csv")


def test_masks_and_hidden_files(root):
    (root / ".thumbs").mkdir()
    Image.new("RGB", (5, 5)).save(root / ".thumbs" / "x.jpg")
    for image in POINTS:
        mask = (root / "masks" / image).with_suffix(".png")
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (60, 40), 255).save(mask)
    source = ImageFolder(root, masks="masks")
    assert len(source.images) == 4
    assert all(i.mask_path is not None and i.mask_path.is_file() for i in source.images)
    mask.unlink()
    with pytest.raises(DataError, match="mask of shoe"):
        ImageFolder(root, masks="masks")


BAD_ROWS = [
    "", "x", "a,b,c", "../a.jpg,rim,1,2,1", "/etc/passwd,rim,1,2,1", "cup/../../a.jpg,rim,1,2,1", ",rim,1,2,1",
    "cup/a.jpg,,1,2,1", "cup/a.jpg,rim,1,2,1", "cup/a.jpg,new,x,2,1", "cup/a.jpg,new,1,,1", "cup/a.jpg,new,,2,",
    "cup/a.jpg,new,1,2,yes", "shoe/d.jpg,toe,,,1", "cup/a.jpg,new,inf,2,1", "cup/a.jpg,new,1e6,2,1",
    "cup/a.jpg,new,-70,2,1", "cup/gone.jpg,rim,1,2,1", "cup,rim,1,2,1", "cup/a.jpg,new,1,2",
    "cup/a.jpg,new,1,2,1,train", '"cup/a.jpg,new,1,2,1', "cup/a.jpg,new,nan,2,1", "cup\\..\\a.jpg,rim,1,2,1",
    "points.csv,rim,1,2,1", "\0,rim,1,2,1",
]  # fmt: skip


def test_broken_csv(root):
    path = root / "points.csv"

    def check(row: str):
        path.write_text("\n".join([*CSV, row]))
        files = (path, root / "cup" / "gone.jpg", root / "cup", root / "points.csv")
        result = verdict(lambda: ImageFolder(root, keypoints="points.csv"), *files)
        assert isinstance(result, DataError) or row == ""

    every(BAD_ROWS, check)


def broken_json() -> list[Mutation]:
    plain = [Mutation(f"plain {m.label}", m.data) for m in json_mutations(POINTS, lambda path: len(path) < 3)]
    return (
        plain[::3] + [Mutation(f"coco {m.label}", m.data) for m in json_mutations(coco(), lambda p: len(p) == 3)][::6]
    )


def test_broken_json(root):
    path = root / "points.json"
    unnamed = [root / name for name in ("12", "a/b.jpg", "unknown", "Größe ß.jpg")]

    def check(mutation: Mutation):
        path.write_bytes(mutation.data)
        result = verdict(lambda: ImageFolder(root, keypoints="points.json"), path, root, *unnamed)
        if not isinstance(result, DataError):
            told = json.loads(mutation.data)
            images = told if "images" not in told else {i["file_name"] for i in told["images"]}
            unseen = {i for i in POINTS if i not in images}
            assert {note.split(": not in")[0] for note in result.notes} == {str(root / i) for i in unseen}

    every(broken_json(), check)


def test_broken_pictures_and_folders(root):
    (root / "cup" / "a.jpg").write_bytes(b"no picture")
    assert isinstance(verdict(lambda: ImageFolder(root), root / "cup" / "a.jpg"), DataError)
    for wrong in (root / "none", root / "cup" / "a.jpg"):
        assert isinstance(verdict(lambda path=wrong: ImageFolder(path), wrong), DataError)
    (root / "empty").mkdir()
    assert isinstance(verdict(lambda: ImageFolder(root / "empty"), root / "empty"), DataError)
    with pytest.raises(DataError, match="dragon"):
        ImageFolder(root / "shoe", categories=["dragon"])
    assert np.isfinite(ImageFolder(root / "shoe")[0].src.xy_px).all()


def test_a_split_without_a_pair_says_which_and_what_it_has(tmp_path: Path) -> None:
    for name in ("cup/a.png", "cup/b.png", "shoe/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (60, 40)).save(tmp_path / name)
    with pytest.raises(DataError, match=r"split train: .*two pictures .* got 1 of cup; add pictures"):
        ImageFolder(tmp_path, "train", fractions=(0.5, 0.5, 0))
    with pytest.raises(DataError, match=r"split all: .*two pictures .* got 1 of shoe; add pictures"):
        ImageFolder(tmp_path, categories=["shoe"])
