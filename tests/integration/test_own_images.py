"""The ``geoalign`` command on people's own pictures, as typed."""

import csv
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import geoalign
from geoalign.cli.__main__ import main
from geoalign.data import ImageFolder
from geoalign.data.records import DataError
from geoalign.synthetic.jobs import Job


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Four synthetic cats, and files that are no pictures."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(4):
        Image.fromarray(Job(0, "test", "cat", i).picture().image).save(folder / f"cat{i}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("left out")
    return folder


def run(*words):
    return main([str(word) for word in words])


def test_match_writes_a_picture_and_a_table(photos, tmp_path, capsys):
    out = tmp_path / "new" / "match.png"
    words = ("match", photos / "cat0.png", photos / "cat1.png", "--points", "120,85", "200,90", "-3,5", "--out", out)
    assert run(*words) == 0
    told = capsys.readouterr().out
    assert "120, 85" in told
    assert "skipped 1" in told
    assert "outside" in told
    assert np.asarray(Image.open(out)).std() > 10


def test_match_as_json(photos, tmp_path, capsys):
    words = ("match", photos / "cat0.png", photos / "cat0.png", "--grid", 4, "--no-mask", "--json", "--align", "rotate")
    assert run(*words, "--out", tmp_path / "m.png") == 0
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert told["pose"] == "upright"
    assert "the same" in captured.err
    errors = [np.hypot(*np.subtract(m["source"], m["target"])) for m in told["matches"]]
    assert np.median(errors) < 10


def test_points_of_a_file(photos, tmp_path, capsys):
    points = tmp_path / "points.csv"
    points.write_text("image,keypoint,x,y\ncat0.png,left_eye,100,90\ncat0.png,right_eye,120,90\nother.png,nose,1,1\n")
    table = tmp_path / "mirror.yaml"
    table.write_text("cat: {names: [left_eye, right_eye], mirror_pairs: [[0, 1]], groups: []}\n")
    words = ("match", photos / "cat0.png", photos / "cat1.png", "--points-file", points, "--json", "--align", "flip")
    assert run(*words, "--symmetry", table, "--category", "cat", "--out", tmp_path / "m.png") == 0
    assert [m["point"] for m in json.loads(capsys.readouterr().out)["matches"]] == ["left_eye", "right_eye"]
    assert run(*words, "--symmetry", table, "--category", "cow", "--out", tmp_path / "n.png") == 1
    assert "set --category" in capsys.readouterr().err
    points.write_text(points.read_text() + "cat0.png,left_eye,101,91\n")  # which of the two is it?
    assert run(*words[:-1], "off", "--out", tmp_path / "n.png") == 1
    assert "every name once for an image, got left_eye" in capsys.readouterr().err


def test_folders_are_matched_picture_by_picture(photos, tmp_path, capsys):
    targets, points = tmp_path / "targets", tmp_path / "points.csv"
    targets.mkdir()
    for name in ("cat1.png", "cat2.png"):
        shutil.copy(photos / name, targets)
    os.link(photos / "cat0.png", targets / "same.png")
    points.write_text("image,keypoint,x,y\ncat0.png,nose,120,85\ncat3.png,nose,110,90\ncat3.png,tail,9999,1\n")
    out = tmp_path / "matches.csv"
    assert run("match", photos, targets, "--points-file", points, "--out", out, "--align", "flip") == 0
    rows = list(csv.DictReader(out.open()))
    pairs = [("cat0.png", "cat1.png"), ("cat0.png", "cat2.png")]
    pairs += [("cat3.png", name) for name in ("cat1.png", "cat2.png", "same.png")]
    assert [(row["source"], row["target"]) for row in rows] == pairs
    one = geoalign.load("lite", device="cpu").match(photos / "cat3.png", photos / "cat2.png", [(110, 90)], "flip")
    assert np.allclose([float(rows[3]["target_x"]), float(rows[3]["target_y"])], one.xy_px[0], atol=0.01)
    told = capsys.readouterr()
    assert all(word in told.out for word in ("5 pairs", "broken.jpg", "point tail", "rows of cat1.png"))
    assert ("left and right" in told.err) == any("mirrored" in row["pose"] or "flip" in row["pose"] for row in rows)


def matched(out):
    return int(re.search(r"^(\d+) ", out, re.MULTILINE).group(1))


def test_dense_with_and_without_a_mask(photos, tmp_path, capsys):
    pair = ("dense", photos / "cat0.png", photos / "cat1.png")
    assert run(*pair, "--out", tmp_path / "all.png", "--align", "flip", "--no-mask") == 0
    every = matched(capsys.readouterr().out)
    assert run(*pair, "--out", tmp_path / "subject.png", "--box", "20,20,200,180") == 0
    assert matched(capsys.readouterr().out) < every
    picture = Image.open(photos / "cat0.png")
    mask = Image.new("L", picture.size)
    mask.paste(255, (0, 0, picture.width // 2, picture.height))
    mask.save(tmp_path / "mask.png")
    assert run(*pair, "--mask", tmp_path / "mask.png", "--out", tmp_path / "half.png") == 0
    whole, half = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("all", "half"))
    assert whole.shape == half.shape
    capsys.readouterr()
    for size, told in ((picture.size, "leaves no part"), ((5, 5), "source's size")):
        Image.new("L", size).save(tmp_path / "bad.png")
        assert run(*pair, "--mask", tmp_path / "bad.png", "--out", tmp_path / "none.png") == 1
        assert told in capsys.readouterr().err
    assert not (tmp_path / "none.png").exists()


def test_pca_leaves_out_what_it_cannot_read(photos, tmp_path, capsys):
    assert run("pca", photos / "cat0.png", photos / "broken.jpg", photos / "cat1.png", "--out", tmp_path / "p.png") == 0
    told = capsys.readouterr().out
    assert "2 pictures" in told
    assert "broken.jpg" in told
    assert run("pca", photos / "empty.png", "--out", tmp_path / "p.png") == 1


@pytest.fixture(scope="module")
def propagated(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("labels") / "keypoints.csv"
    assert run("propagate", photos / "cat0.png", "--points", "120,85", "200,90", photos, "--out", out) == 0
    return out


def test_propagate_labels_a_folder(photos, propagated):
    rows = list(csv.DictReader(propagated.open()))
    assert [r["image"] for r in rows] == [f"cat{i}.png" for i in range(4) for _ in range(2)]
    assert [(float(r["x"]), float(r["y"])) for r in rows[:2]] == [(120, 85), (200, 90)]  # the source keeps its own
    assert [r["confidence"] == "1.000" and r["pose"] == "upright" for r in rows] == [True] * 2 + [False] * 6
    assert propagated.with_name("keypoints-sheet.png").is_file()


def test_both_files_are_read_as_a_dataset(photos, propagated, tmp_path):
    """The csv and the COCO json say the same."""
    for name in ("broken.jpg", "empty.png"):
        assert (photos / name).is_file()  # the reader leaves out what the files do not name
    sets = [
        ImageFolder(photos, keypoints=propagated.with_suffix(kind), category="object") for kind in (".csv", ".json")
    ]
    assert len(sets[0]) == len(sets[1]) == 12
    for one, other in zip(*(s.images for s in sets), strict=True):
        assert one.path == other.path
        assert np.allclose(one.xy_px, other.xy_px)


def test_what_was_skipped_is_said(photos, tmp_path, capsys):
    words = ("propagate", photos / "cat0.png", photos, "--grid", 2, "--out", tmp_path / "k.csv")
    assert run(*words) == 0
    told = capsys.readouterr().out
    assert "skipped 2" in told
    assert "broken.jpg" in told
    assert "0 bytes" in told


@pytest.fixture
def own(photos, tmp_path):
    """Two pictures, points, a mirror table and a mask, and links to them."""
    for name in ("cat0.png", "cat1.png"):
        shutil.copy(photos / name, tmp_path)
    shutil.copy(tmp_path / "cat0.png", tmp_path / "mask.png")
    (tmp_path / "points.csv").write_text("keypoint,x,y\nleft,100,90\nright,120,90\n")
    (tmp_path / "mirror.yaml").write_text("object: {names: [left, right], mirror_pairs: [[0, 1]], groups: []}\n")
    for name in ("cat1.png", "points.csv"):
        os.link(tmp_path / name, tmp_path / f"hard-{name}")
        (tmp_path / f"soft-{name}").symlink_to(name)
    return tmp_path


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


MATCH = ["match", "cat0.png", "cat1.png", "--points-file", "points.csv"]
PROPAGATE = ["propagate", "cat0.png", ".", "--points", "points.csv"]


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize(
    "words",
    [
        [*MATCH, "--out", "cat0.png"],
        [*MATCH, "--out", "../{n}/cat1.png"],
        [*MATCH, "--out", "hard-cat1.png"],
        [*MATCH, "--out", "soft-cat1.png"],
        [*MATCH, "--align", "flip", "--symmetry", "table.png", "--out", "table.png"],
        ["dense", "cat0.png", "cat1.png", "--mask", "mask.png", "--out", "mask.png"],
        ["dense", "file://{f}/cat0.png", "cat1.png", "--out", "cat0.png"],
        ["pca", "cat0.png", "cat1.png", "--out", "cat1.png"],
        ["match", "cat0.png", "cat1.png", "--grid", "2", "--model", "model.png", "--out", "model.png"],
        [*PROPAGATE, "--out", "points.csv"],
        [*PROPAGATE, "--out", "hard-points.csv"],
        [*PROPAGATE, "--out", "soft-points.csv"],
        ["propagate", "cat0.png", ".", "--points-file", "points.csv", "--out", "points.csv"],
        ["propagate", "cat0.png", ".", "--points", "points.csv", "--symmetry", "k.json", "--out", "k.csv"],
        ["propagate", "{f}/cat0.png", "sub", "--grid", "2", "--out", "x.csv"],
    ],
)
def test_no_input_is_written_over(own, words, force, monkeypatch, capsys):
    monkeypatch.chdir(own)
    shutil.copy("mirror.yaml", "table.png")
    shutil.copy("mirror.yaml", "k.json")
    Path("model.png").touch()
    Path("sub").mkdir()
    shutil.copy("cat1.png", "x-sheet.png")
    Path("sub/cat.png").hardlink_to("x-sheet.png")  # the folder's picture, where the contact sheet would go
    before = contents(own)
    assert run(*(word.format(f=own, n=own.name) for word in words), *force) == 1
    assert "no input" in capsys.readouterr().err
    assert contents(own) == before


def test_another_file_is_replaced_only_when_allowed(own, monkeypatch, capsys):
    monkeypatch.chdir(own)
    for words, names in ((MATCH, ["match.png"]), (PROPAGATE, ["k.csv", "k.json", ".k-sheet.png"])):
        for name in names:
            (own / name).write_text("mine")
            before = contents(own)
            assert run(*words, "--out", names[0]) == 1
            assert "--force" in capsys.readouterr().err
            assert contents(own) == before
            (own / name).unlink()
        for name in names:
            (own / name).write_text("mine")
        assert run(*words, "--out", names[0], "--force") == 0
        assert all((own / name).read_bytes() != b"mine" for name in names)


def test_labels_are_written_whole_or_not_at_all(own, monkeypatch, capsys):
    monkeypatch.chdir(own)
    odd = os.fsencode(own) + b"/caf\xe9.png"
    shutil.copy(own / "cat1.png", odd)
    assert run(*PROPAGATE, "--out", "k.csv") == 0
    told = capsys.readouterr().out
    assert "skipped 1" in told
    assert "UTF-8" in told
    assert len(list(csv.DictReader((own / "k.csv").open()))) == 2 * 5  # cat0, cat1 and its links, the mask
    os.remove(odd)
    before = contents(own)
    monkeypatch.setattr("geoalign.apps.propagate.contact_sheet", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(*PROPAGATE, "--out", "k.csv", "--force")
    assert contents(own) == before


def test_names_are_no_markup(own, monkeypatch, capsys):
    monkeypatch.chdir(own)
    Path("[red]p.csv").write_text("keypoint,x,y\n[bold]eye[/bold],100,90\n[/x],120,90\n:cat:,1,1\n")
    assert run("match", "cat0.png", "cat1.png", "--points", "[red]p.csv", "--out", "[b].png") == 0
    told = capsys.readouterr().out
    assert all(word in told for word in ("[bold]eye[/bold]", "[/x]", ":cat:", "wrote [b].png"))
    Path("[sub").mkdir()
    shutil.copy("cat1.png", "[sub/[red].png")
    Path("[sub/[bold]x.png").touch()
    assert run("propagate", "cat0.png", "[sub", "--points", "[red]p.csv", "--out", "[i]k.csv") == 0
    told = capsys.readouterr().out
    assert "wrote [i]k.csv, [i]k.json" in told
    assert "[bold]x.png: file: expected" in told


def test_an_empty_file_of_keypoints(own, capsys):
    (own / "k.csv").write_text("{}")
    (own / "k.json").write_text("{}")
    assert run("match", own / "cat0.png", own / "cat1.png", "--points", own / "k.csv", "--out", own / "m.png") == 1
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(DataError, match=r"k\.json"):
        ImageFolder(own, keypoints=own / "k.json", category="object")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["match", "{p}/empty.png", "{p}/cat0.png", "--points", "1,1"], "0 bytes"),
        (["match", "{p}/none.png", "{p}/cat0.png", "--points", "1,1"], "no such file"),
        (["match", "{p}/cat0.png", "{p}/broken.jpg", "--points", "1,1"], "an image of JPEG"),
        (["match", "{p}/cat0.png", "{p}/cat1.png", "--points", "1;1"], "points are x,y"),
        (["match", "{p}/cat0.png", "{p}/cat1.png", "--points", "9999,1"], "no point lies on the source"),
        (["match", "{p}/cat0.png", "{p}/cat1.png", "--grid", "0"], "1 to 200"),
        (["match", "{p}/cat0.png", "{p}/cat1.png", "--points", "{p}/none.csv"], "no such file"),
        (["match", "{p}/cat0.png", "{p}/cat1.png", "--points-file", "{p}/notes.txt"], "x, y and optionally"),
        (["match", "{p}/cat0.png", "{p}/cat1.png", "--points", "1,1", "--model", "unheard"], "no refiner at unheard"),
        (["match", "{p}/cat0.png", "{p}/cat1.png", "--points", "1,1", "--out", "{p}/m.unheard"], "unheard"),
        (["match", "{p}", "{p}/cat1.png", "--points", "1,1"], "end its name in .csv"),
        (["match", "{p}", "{p}/cat1.png", "--points", "9999,1", "--out", "{p}/m.csv"], "no picture could be matched"),
        (["match", "{p}", "{p}", "--grid", "2", "--json", "--out", "{p}/m.csv"], "for two pictures"),
        (["match", "{p}/cat0.png", "{p}/cat1.png", "--grid", "2", "--box", "1,2,3"], "a box is x1,y1,x2,y2"),
        (["match", "{p}/cat0.png", "{p}/cat1.png", "--grid", "2", "--target-box", "9,9,1,1"], "x1 < x2"),
        (["dense", "{p}/cat0.png", "{p}/cat1.png", "--box", "9999,0,99999,5"], "outside"),
        (["dense", "{p}/cat0.png", "{p}/cat1.png", "--mask", "{p}"], "a folder"),
        (["match", "{p}/cat0.png", "{p}/cat1.png", "--points-file", "{p}"], "a folder"),
        (["match", "{p}/cat0.png", "{p}/cat1.png", "--points", "1,1", "--device", "cuda:99"], "cannot be used"),
        (["match", "{p}/cat0.png", "{p}/cat1.png", "--points", "1,1", "--device", "foo"], "cannot be used"),
        (["pca", "{p}/cat0.png", "--device", "meta"], "cannot be used"),
        (["demo", "--device", "meta"], "cannot be used"),
        (["propagate", "{p}/cat0.png", "--points", "1,1", "{p}/nowhere", "--out", "{p}/k.csv"], "no such folder"),
        (["propagate", "{p}/cat0.png", "--points", "1,1", "{p}", "--out", "{p}/k.json"], "end it in .csv"),
    ],
)
def test_bad_input_is_one_line(photos, words, told, capsys, tmp_path):
    placed = [word.format(p=photos) for word in words]
    assert run(*placed, *([] if {"--out", "demo"} & set(placed) else ["--out", tmp_path / "o.png"])) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert told in error
    assert error.count("\n") == 1


def test_a_huge_picture_is_refused(photos, tmp_path, capsys):
    Image.new("1", (20_000, 15_000)).save(tmp_path / "huge.png")
    assert run("match", tmp_path / "huge.png", photos / "cat0.png", "--grid", "2") == 1
    assert "scale the image down" in capsys.readouterr().err


def test_pose_templates_choose_the_flip(shared):
    """Cats whose bodies point to opposite sides match mirrored, those of the same side upright."""
    from geoalign import load

    matcher = load("lite")
    views = {
        (colour, side): matcher.picture(shared / "data" / "pose-templates" / f"cat_{colour}_{side}.png")
        for colour in ("black", "orange") for side in ("left", "right")
    }  # fmt: skip
    for (a, one), source in views.items():
        for (b, other), target in views.items():
            if (a, b) == ("black", "orange"):
                assert matcher.choose(source, target, "flip").flip == (one != other), (a, one, b, other)
