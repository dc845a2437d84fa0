"""Livestock: what is made equals the data at hand, annotation by annotation; and the subsets of its reader."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from geoalign.data import Livestock
from geoalign.data.prepare import livestock, livestock_originals
from geoalign.data.prepare.__main__ import main
from geoalign.data.prepare.datasets import CATALOGUE
from geoalign.data.prepare.livestock import NewPictures, build, choose, dhash
from geoalign.data.prepare.livestock_originals import HOME, UNSEEN, Original, read_originals
from geoalign.data.readers.livestock import source_of
from geoalign.data.records import DataError
from geoalign.files import sha256

KEPT = Image.new("RGB", (1, 1))


@pytest.fixture(scope="module")
def made(shared: Path) -> Path:
    return shared / "data" / "livestock"


@pytest.fixture(scope="module")
def originals(shared: Path) -> Path:
    return shared / "data" / "livestock-original" / "data_process"


@pytest.fixture(scope="module")
def notes(made: Path, rows: list[Original]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The annotations, made anew without photographs: which of these are near copies is taken from what is there."""
    there = {(a["src_annotation"], a["src_image"]) for a in map(_json, made.glob("ImageAnnotation/*/*.json"))}
    kept: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for split, note, _ in choose(
        HOME, rows, lambda _, original: KEPT if (original.source, original.picture.name) in there else None
    ):
        kept.setdefault((split, note["src_annotation"]), []).append(note)
    return kept


@pytest.fixture(scope="module")
def rows(originals: Path) -> list[Original]:
    return list(read_originals(originals, HOME.recordings))


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def _files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_annotation_comes_out_with_its_name(notes: Any, made: Path) -> None:
    got = {f"{note['category']}/{note['filename'][:-4]}.json": note for some in notes.values() for note in some}
    there = {f"{p.parent.name}/{p.name}": _json(p) for p in made.glob("ImageAnnotation/*/*.json")}
    assert len(there) == 609
    assert got == there


def test_every_pair_comes_out_in_its_place(notes: Any, made: Path, tmp_path: Path) -> None:
    counts = [livestock._write_pairs(tmp_path, split, HOME, notes) for split in HOME.pictures]
    assert counts == [3600, 450, 1200]
    for folder in ("PairAnnotation", "Layout"):
        assert _files(tmp_path / folder) == _files(made / folder)
    assert livestock.symmetry_yaml() == (made / "symmetry.yaml").read_text()
    assert (made / "README.md").read_text() == livestock.README


def test_every_original_has_one_split_and_24_slots(originals: Path, rows: list[Original]) -> None:
    rows = [*rows, *read_originals(originals, UNSEEN.recordings)]
    assert Counter(row.source for row in rows) == {
        "horse": 682, "sheep": 659, "cattleA": 206, "cattleB": 397, "cattleC": 285, "ap10k": 42,
    }  # fmt: skip
    assert {livestock_originals.split_of(livestock_originals.clip(row.source, row.picture.name)) for row in rows} == {
        "trn", "val", "test", None,
    }  # fmt: skip
    assert len(livestock.SLOTS) == len(set(livestock.SLOTS)) == 24
    for from_left, side in ((True, "left"), (False, "right")):
        named = [livestock.SLOTS[livestock.slot(point, from_left)] for point in livestock_originals.POINTS]
        assert len(set(named)) == 18
        assert {name for name in named if name.split("_", 1)[-1] in livestock.NEAR} == {
            f"{side}_{part}" for part in livestock.NEAR
        }


@pytest.mark.parametrize(
    ("source", "a", "b", "same"),
    [
        ("horse", "dao-11-2-_png.rf.x.jpg", "dao-11-9-_png.rf.y.jpg", True),
        ("horse", "color_10_png.rf.x.jpg", "color_11_png.rf.y.jpg", False),
        ("sheep", "left-12-_png.rf.x.jpg", "left-23-_png.rf.y.jpg", True),
        ("sheep", "left-12-_png.rf.x.jpg", "right-12-_png.rf.y.jpg", False),
        ("cattleA", "left_43_png.rf.x.jpg", "left_48_png.rf.y.jpg", False),
        ("cattleB", "1023749544_png.rf.x.jpg", "1023749545_png.rf.x.jpg", False),
    ],
)
def test_frames_of_a_video_are_one_clip(source: str, a: str, b: str, same: bool) -> None:
    assert (livestock_originals.clip(source, a) == livestock_originals.clip(source, b)) is same


def _original(picture: Path, species: str = "horse") -> Original:
    with Image.open(picture) as image:
        return Original(species, species, picture, (image.height, image.width), (1, 1, 9, 9), np.zeros((18, 3)))


def test_near_copies_are_dropped(originals: Path, tmp_path: Path) -> None:
    first, second, *_ = sorted(originals.glob("horse/images/train/*.jpg"))
    image = Image.open(first)
    (copy, shifted) = (tmp_path / name for name in ("copy.jpg", "shifted.jpg"))
    image.resize((900, 506)).save(copy, quality=60)
    image.transform(image.size, Image.Transform.AFFINE, (1, 0, 9, 0, 1, 4)).save(shifted)
    assert (dhash(image) != dhash(Image.open(copy))).mean() < livestock.NEAR_COPY_INSIDE
    opens = NewPictures()
    assert opens("test", _original(first)) is not None
    assert opens("test", _original(copy)) is None
    assert opens("trn", _original(copy)) is None, "nor in another split"
    assert opens("trn", _original(shifted)) is None
    assert opens("trn", _original(second)) is not None
    assert opens("trn", _original(copy, "sheep")) is not None, "species are apart"


def _crops(photographs: list[Path]) -> Iterator[Image.Image]:
    """Pictures of the same size that are no near copies of each other."""
    for image in map(Image.open, photographs):
        w, h = image.size
        for at, (x, y) in enumerate((x, y) for y in (0, h // 4, h // 2) for x in (0, w // 4, w // 2)):
            yield image.crop((x, y, x + w // 2, y + h // 2)).rotate(180 * (at % 2)).resize(image.size)


@pytest.fixture(scope="module")
def few_originals(originals: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An original of few pictures: crops of those at hand, under names of clips of every split."""
    folder = tmp_path_factory.mktemp("livestock") / livestock_originals.ORIGINAL
    left: dict[str, Iterator[Image.Image]] = {}
    for recording in (*HOME.recordings, *UNSEEN.recordings):
        like = {"cattleC": "cattle/B/images", "ap10k": "sheep/images"}.get(recording.source)
        like = like or recording.images.partition("images")[0] + "images"
        crops = left.setdefault(recording.source, _crops(sorted((originals / like).rglob("*.jpg"))))
        document = _json(originals / recording.annotations)
        seen = Counter[str | None]()
        images = []
        (folder / recording.images).mkdir(parents=True)
        for image in document["images"]:
            split = livestock_originals.split_of(livestock_originals.clip(recording.source, image["file_name"]))
            if seen[split] < 3 and split is not None and (crop := next(crops, None)) is not None:
                crop.save(folder / recording.images / image["file_name"], quality=70)
                images.append(image)
                seen[split] += 1
        ids = {image["id"] for image in images}
        path = folder / recording.annotations
        path.parent.mkdir(parents=True, exist_ok=True)
        annotations = [item for item in document["annotations"] if item["image_id"] in ids]
        path.write_text(json.dumps(document | {"images": images, "annotations": annotations}))
    return folder.parents[1]


@pytest.fixture
def small(few_originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(few_originals, tmp_path / "livestock")
    for name in livestock_originals.VERSION:
        monkeypatch.setitem(
            livestock_originals.VERSION, name, sha256(few_originals / livestock_originals.ORIGINAL / name)
        )
    return tmp_path / "livestock"


def test_from_photographs_to_a_sound_folder(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset=livestock", f"root={small}", "counts=any", "progress=false"]) == 0
    out = capsys.readouterr().out
    assert "built " in out and "unseen test pairs in" in out  # noqa: PT018
    assert out.endswith("errors: none\nresult: sound\n")
    for folder in (small, small / "unseen"):
        assert "CC BY 4.0" in (folder / "README.md").read_text()
        assert yaml.safe_load((folder / "symmetry.yaml").read_text())["horse"]["names"] == list(livestock.SLOTS)
        for path in folder.glob("JPEGImages/*/*.jpg"):
            assert Image.open(path).size == (640, 360)
    assert not list(small.glob(".*")), "no draft is left"
    before = _files(small)
    shutil.rmtree(small / "original")
    assert main(["dataset=livestock", f"root={small}", "counts=any", "progress=false"]) == 0, "nothing is made again"
    assert _files(small) == {name: data for name, data in before.items() if not name.startswith("original")}


def test_the_archive_is_unpacked_where_it_is_looked_for(small: Path, tmp_path: Path) -> None:
    archive = tmp_path / "new" / CATALOGUE["livestock"].sources[0].file
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(small / "original", arcname="Livestock-keypoint-detection-0a1b2c")
    assert main(["dataset=livestock", f"root={archive.parent}", "counts=any", "progress=false"]) == 0


def test_bad_originals_are_named(small: Path) -> None:
    path = small / livestock_originals.ORIGINAL / "cattle/B"
    shutil.move(path / "images", small / "images")
    with pytest.raises(DataError, match="cattle/B/images: folder: expected the photographs, got none; unpack"):
        build(small, progress=False)
    shutil.move(small / "images", path / "images")
    missing = next((path / "images").glob("*.jpg")).rename(small / "away.jpg")
    with pytest.raises(DataError, match=r"cattle/B/images/.*\.jpg: file: expected a readable file, got no such file"):
        build(small, progress=False)
    assert missing.exists()
    annotations = path / "annotations/_annotations.coco.json"
    annotations.write_text(annotations.read_text() + " ")
    with pytest.raises(DataError, match=r"sha256: expected the file of LivestockKeypoints v1\.0, .*; take the data"):
        build(small, progress=False)
    assert not (small / "Layout").exists()
    assert not list(small.glob(".building*"))


def test_a_species_without_a_pair_is_named_with_its_split(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = small / livestock_originals.ORIGINAL
    for recording in HOME.recordings[:3]:
        path = folder / recording.annotations
        document = _json(path)
        keep = {i["id"] for i in document["images"] if livestock_originals.split_of(f"horse/{_clip(i)}") != "val"}
        document["annotations"] = [a for a in document["annotations"] if a["image_id"] in keep]
        path.write_text(json.dumps(document))
        monkeypatch.setitem(livestock_originals.VERSION, recording.annotations, sha256(path))
    with pytest.raises(DataError, match="at least two pictures of horse that share 3 points in split val, got 0"):
        build(small, progress=False)


def _clip(image: dict[str, Any]) -> str:
    return livestock_originals.clip("horse", image["file_name"]).partition("/")[2]


def test_without_options_the_list_is_read(made: Path) -> None:
    source = Livestock(made)
    assert (len(source), len(source.images), source.slots) == (1200, 150, 30)
    assert [pair.pair_id for pair in source] == (made / "Layout/large/test.txt").read_text().split()


@pytest.mark.parametrize("source", ["horse", "sheep", "cattleA", "cattleB"])
def test_a_source_is_left_out_or_alone(source: str, made: Path) -> None:
    rest, alone = Livestock(made, "val", without=source), Livestock(made, "val", only=source)
    assert {source_of(image) for image in rest.images} == {"horse", "sheep", "cattleA", "cattleB"} - {source}
    assert {source_of(image) for image in alone.images} == {source}
    assert set(Counter(pair.category for pair in rest).values()) <= {150, 12 * 11}, (
        "as many as listed, or all there are"
    )
    assert set(alone.symmetries) >= {image.category for image in alone.images}


def test_two_species_share_slots(made: Path) -> None:
    source = Livestock(made, "val", species="across")
    assert len(source) == 450
    assert all(pair.src.category == pair.category != pair.trg.category and pair.visible.sum() >= 3 for pair in source)
    assert {(p.src.category, p.trg.category) for p in source} == {
        (a, b) for a in livestock.SPECIES for b in livestock.SPECIES if a != b
    }


@pytest.mark.parametrize("few", [4, 16])
def test_few_photographs_are_drawn_by_their_seed(few: int, made: Path) -> None:
    source, again, other = (Livestock(made, "val", few=few, draw=draw) for draw in (0, 0, 1))
    assert Counter(image.category for image in source.images) == dict.fromkeys(livestock.SPECIES, few)
    assert source.fingerprint() == again.fingerprint() != other.fingerprint()
    assert len({pair.pair_id for pair in source}) == len(source) <= min(450, 3 * few * (few - 1))
    assert all(pair.src.category == pair.trg.category and pair.visible.sum() >= 3 for pair in source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"without": "goat"}, "without: expected one of cattleA, cattleB, horse, sheep, got goat"),
        ({"only": "goat"}, "only: expected one of cattleA"),
        ({"split": "val", "few": 25}, "split val: expected at least 25 pictures of cattle, got 24"),
        ({"few": 1}, "few is a number of pictures from 2, or null, got 1"),
        ({"categories": ["goat"]}, "got goat; there are cattle, horse, sheep"),
        ({"split": "unseen"}, "unseen: root: expected the dataset's folder, .*dataset=livestock"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, Any], message: str, made: Path) -> None:
    with pytest.raises(ValueError, match=message):
        Livestock(made, **options)


@pytest.mark.unchecked
def test_a_species_in_place_of_how_pairs_are_drawn_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="species is within or across, got 'goat'; categories="):
        Livestock(tmp_path, species="goat")  # type: ignore[arg-type]


def test_a_root_without_photographs_is_named(made: Path, tmp_path: Path) -> None:
    for name in ("ImageAnnotation", "Layout"):
        shutil.copytree(made / name, tmp_path / name)
    with pytest.raises(DataError, match=r"image: expected a file, got nothing \(150 of 150 .*dataset=livestock"):
        Livestock(tmp_path)


def test_a_species_with_one_picture_is_named_with_its_split(made: Path, tmp_path: Path) -> None:
    names = [name for name in (made / "Layout/large/val.txt").read_text().split() if name.endswith(":cattle")]
    one = next(name for name in names if name.count("cattleB") == 1)
    shutil.copytree(made / "ImageAnnotation", tmp_path / "ImageAnnotation")
    (tmp_path / "Layout/large").mkdir(parents=True)
    (tmp_path / "Layout/large/val.txt").write_text(one)
    with pytest.raises(DataError, match="split val: expected at least 2 pictures of cattle, got 1"):
        Livestock(tmp_path, "val", only="cattleB", require_images=False)
