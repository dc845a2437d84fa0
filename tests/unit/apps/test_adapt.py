"""A folder of photographs to a refiner: what comes out, and every folder that cannot be learnt from."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny import TinyBackbone
from PIL import Image

from geoalign.apps import adapt as app
from geoalign.apps.adapt import adapt, main
from geoalign.apps.judge import Verdict, home
from geoalign.apps.learning import doubtful, joined, lonely
from geoalign.apps.photographs import Photograph, read_photograph
from geoalign.data.readers.pseudo import read_pseudo
from geoalign.data.records import ImageRecord
from geoalign.pseudo.facing import Facing
from geoalign.pseudo.label import Labelled, Set
from geoalign.pseudo.subjects import Look, Subject
from geoalign.refiner.checkpoint import read_weights
from geoalign.refiner.tail import frozen_features

BETTER, WORSE = Verdict(0.2, 0.4, 0.2, 0.05, 9), Verdict(0.4, 0.4, 0.0, 0.05, 9)


def photograph(kind: int, seed: int, turned: bool = False) -> Image.Image:
    """A textured thing on a plain ground; the same thing for the same ``kind``."""
    texture = np.random.default_rng(kind).integers(0, 255, (5, 8, 3), dtype=np.uint8)
    thing = Image.fromarray(texture).resize((64, 40), Image.Resampling.NEAREST)
    thing = thing.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if turned else thing
    rng = np.random.default_rng(100 + seed)
    page = rng.integers(118, 138, (128, 128, 3), dtype=np.uint8)
    x, y = 8 * rng.integers(3, 6), 8 * rng.integers(4, 7)
    page[y : y + 40, x : x + 64] = thing
    return Image.fromarray(page)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(app, "cut_backbone", lambda name: (TinyBackbone(image_size=128), []))


@pytest.fixture
def folder(tmp_path):
    for i in range(12):
        path = tmp_path / "photos" / f"{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        photograph(0, i, turned=i % 3 == 1).save(path)
    return tmp_path / "photos"


def learn(folder, out, **options):
    return adapt(folder, out, **{"steps": 2, "device": "cpu", "progress": False, **options})


def test_a_refiner_that_got_better_is_kept_with_its_card(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(app, "judge", lambda *_: BETTER)
    done = learn(folder, tmp_path / "out")
    assert done.kept
    names = {path.name for path in done.folder.iterdir()}
    assert names == {
        "model.safetensors", "config.json", "README.md", "labels.parquet", "before-after.png", "adapted.json",
    }  # fmt: skip
    assert json.loads((done.folder / "adapted.json").read_text())["photographs"] == 12
    assert "without keypoint labels" in (done.folder / "README.md").read_text()
    assert read_weights(done.folder).recipe["backbone"]["_target_"] == "geoalign.backbone.lite.Lite"  # --model says it
    labels = read_pseudo(done.folder / "labels.parquet")
    assert labels.protocol["made_by"] == "geoalign adapt"
    assert set(labels.table["image"]) <= set(labels.images)


def test_frozen_features_are_kept_where_it_did_not(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(app, "judge", lambda *_: WORSE)
    done = learn(folder, tmp_path / "out")
    assert not done.kept
    assert {path.name for path in done.folder.iterdir()} == {"labels.parquet", "before-after.png", "adapted.json"}
    assert "not better" in str(done.verdict)


def test_broken_files_and_copies_are_named_and_the_rest_is_learnt_from(folder, tmp_path):
    (folder / "broken.png").write_bytes(b"no picture")
    shutil.copy(folder / "03.png", folder / "copy.png")
    done = learn(folder, tmp_path / "out")
    assert any(line.startswith("broken.png: ") for line in done.skipped)
    assert "copy.png: the same as 03.png" in done.skipped
    assert done.verdict.rounds > 0


def refused(folder, tmp_path, capsys, *options):
    before = sorted(path.name for path in tmp_path.iterdir())
    assert main([str(folder), "--out", str(tmp_path / "out"), "--steps", "2", "--device", "cpu", *options]) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before  # nothing half-written
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    return said[0]


def test_two_pictures_are_too_few(folder, tmp_path, capsys):
    for path in sorted(folder.iterdir())[2:]:
        path.unlink()
    assert "at least 6, got 2 that can be used" in refused(folder, tmp_path, capsys)


def test_kinds_that_are_mixed_do_not_agree(folder, tmp_path, capsys):
    for i in range(20):
        photograph(i, i).save(folder / f"{i:02d}.png")
    assert "subfolder of its own" in refused(folder, tmp_path, capsys)


def one(name, doubt=""):
    look = Look(torch.zeros(2, 3), torch.zeros(2, 2))
    empty = np.zeros((1, 2), np.float32), np.zeros(1, bool)
    record = ImageRecord(name, Path(name), (9, 9), "pets", *empty, (0, 0, 9, 9))
    return Photograph(record, Image.new("RGB", (9, 9)), {}, Subject(look, look), doubt)


def test_subjects_in_doubt_are_counted(tmp_path):
    assert doubtful([one("a.png"), one("b.png", "it takes 80% of the picture")])[0].startswith("1 of 2 photographs")
    assert doubtful([one("a.png")]) == []
    backbone = TinyBackbone(image_size=128)
    frozen = frozen_features(backbone.channels, backbone.grid, backbone.groups, backbone.rest, centre=True)
    rng = np.random.default_rng(0)
    halves = np.concatenate([np.full((128, 64, 3), 128), rng.integers(0, 255, (128, 64, 3))], 1).astype(np.uint8)
    pages = {"thing": photograph(0, 0), "halves": Image.fromarray(halves)}
    made = {name: read_photograph(page, tmp_path, "a.png", backbone, frozen, "cpu") for name, page in pages.items()}
    assert not made["thing"].doubt
    assert "edge" in made["halves"].doubt


def test_groups_that_do_not_match_each_other_are_told():
    sets = [
        Set(images, (False,) * len(images), torch.zeros(4, len(images), 2), torch.ones(4))
        for images in ((0, 1), (1, 2), (3, 4))
    ]
    assert joined(6, sets).tolist() == [0, 0, 0, 1, 1, -1]
    said = lonely([one(f"{at}.png") for at in range(6)], Labelled(sets, Facing(np.zeros(6, bool), np.ones(6)), {}))
    assert len(said) == 2
    assert said[0].startswith("5.png: no match")
    assert said[1].startswith("pets: photographs fall into 2 groups (3, 2)")


def test_a_folder_without_a_match_is_refused(folder, tmp_path, capsys):
    for i in range(12):
        noise = np.random.default_rng(i).integers(0, 255, (128, 128, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i:02d}.png")
    said = refused(folder, tmp_path, capsys)
    assert "matches that agree" in said or "that can be used" in said


def test_kinds_in_subfolders_are_learnt_from_apart(tmp_path):
    for kind, name in enumerate(("cups", "shoes")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(8):
            photograph(kind, i).save(tmp_path / "photos" / name / f"{i}.png")
    done = learn(tmp_path / "photos", tmp_path / "out")
    table = read_pseudo(done.folder / "labels.parquet").table
    assert table.groupby("set")["image"].agg(lambda own: len({name.split("/")[0] for name in own})).max() == 1


def test_an_out_that_is_there_is_not_touched(folder, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    assert "not there yet" in refused(folder, tmp_path, capsys)
    assert not list((tmp_path / "out").iterdir())


def test_true_points_join_and_wrong_ones_are_named(folder, tmp_path, capsys):
    lines = ["image,keypoint,x,y"]
    for i in range(12):
        lines += [f"{i:02d}.png,nose,40,50", f"{i:02d}.png,tail,60,60"]
    labels = tmp_path / "points.csv"
    labels.write_text("\n".join(lines) + "\n")
    done = learn(folder, tmp_path / "good", labels=labels)
    table = read_pseudo(done.folder / "labels.parquet").table
    sizes = table.groupby("set")["image"].nunique()
    assert (sizes == 2).sum() == (sizes > 2).sum()
    labels.write_text("image,keypoint,x,y\nother.png,nose,1,1\n")
    assert "share two points" in refused(folder, tmp_path, capsys, "--labels", str(labels))
    labels.write_text("\n".join(lines).replace("40,50", "400,50") + "\n")
    assert "one that lies outside" in refused(folder, tmp_path, capsys, "--labels", str(labels))


def test_cells_come_home_or_not():
    xy = torch.tensor([[0.0, 0], [50, 0], [100, 0]])
    way = [(torch.eye(3), xy)] * 3
    assert home(way) == 1.0
    lost = [(torch.eye(3), xy), (torch.eye(3)[[1, 0, 2]], xy), (torch.eye(3), xy)]
    assert home(lost) == 1.0  # the middle names its cells in another order, and nothing is lost
    one = (torch.eye(3)[:, [0, 0, 2]], xy)
    assert home([(torch.eye(3), xy), one, (torch.eye(3), xy)]) < 1.0


def test_a_verdict_needs_more_than_its_error():
    assert BETTER.better
    assert not Verdict(0.2, 0.21, 0.01, 0.05, 9).better
    assert not Verdict(0, 0, 0, 0, 0).better
