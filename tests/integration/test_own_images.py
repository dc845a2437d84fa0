"""The ``geoalign`` command on people's own pictures, as typed."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from geoalign.cli.__main__ import main
from geoalign.data import ImageFolder
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
    words = ("match", photos / "cat0.png", photos / "cat0.png", "--grid", 4, "--json", "--align", "rotate")
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
    assert run(*words, "--symmetry", table, "--category", "cow", "--out", tmp_path / "m.png") == 1
    assert "set --category" in capsys.readouterr().err


def test_dense_with_and_without_a_mask(photos, tmp_path, capsys):
    pair = ("dense", photos / "cat0.png", photos / "cat1.png")
    assert run(*pair, "--out", tmp_path / "all.png", "--align", "flip") == 0
    picture = Image.open(photos / "cat0.png")
    mask = Image.new("L", picture.size)
    mask.paste(255, (0, 0, picture.width // 2, picture.height))
    mask.save(tmp_path / "mask.png")
    assert run(*pair, "--mask", tmp_path / "mask.png", "--out", tmp_path / "half.png") == 0
    whole, half = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("all", "half"))
    assert whole.shape == half.shape
    capsys.readouterr()
    for size, told in ((picture.size, "leaves no part"), ((5, 5), "as the source")):
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


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["match", "{p}/empty.png", "{p}/cat0.png", "--points", "1,1"], "0 bytes"),
        (["match", "{p}/none.png", "{p}/cat0.png", "--points", "1,1"], "no such file"),
        (["match", "{p}/cat0.png", "{p}/broken.jpg", "--points", "1,1"], "Pillow can read"),
        (["match", "{p}/cat0.png", "{p}/cat1.png", "--points", "1;1"], "a point is x,y"),
        (["match", "{p}/cat0.png", "{p}/cat1.png", "--points", "9999,1"], "no point lies on the source"),
        (["match", "{p}/cat0.png", "{p}/cat1.png", "--grid", "0"], "1 to 200"),
        (["match", "{p}/cat0.png", "{p}/cat1.png", "--points", "{p}/none.csv"], "no such file"),
        (["match", "{p}/cat0.png", "{p}/cat1.png", "--points-file", "{p}/notes.txt"], "x, y and optionally"),
        (["match", "{p}/cat0.png", "{p}/cat1.png", "--points", "1,1", "--model", "unheard"], "expected lite"),
        (["match", "{p}/cat0.png", "{p}/cat1.png", "--points", "1,1", "--out", "{p}/m.unheard"], "unheard"),
        (["propagate", "{p}/cat0.png", "--points", "1,1", "{p}/nowhere"], "no such folder"),
    ],
)
def test_bad_input_is_one_line(photos, words, told, capsys, tmp_path):
    placed = [word.format(p=photos) for word in words]
    assert run(*placed, *([] if "--out" in placed else ["--out", tmp_path / "o.png"])) == 1
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
        (colour, side): matcher.view(shared / "data" / "pose-templates" / f"cat_{colour}_{side}.png")
        for colour in ("black", "orange") for side in ("left", "right")
    }  # fmt: skip
    for (a, one), source in views.items():
        for (b, other), target in views.items():
            if (a, b) == ("black", "orange"):
                assert matcher.choose(source, target, "flip").flip == (one != other), (a, one, b, other)
