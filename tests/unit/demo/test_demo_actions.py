"""Events of the web page: what is shown after each, the files to take away, and bad input."""

import csv
import json
import os

import numpy as np
import pytest
from helpers.desk import BAD, bad_file, noise, saved, tiny_desk
from PIL import Image

from geoalign.demo.actions import MOST_POINTS, Actions
from geoalign.demo.desk import Pair, Settings
from geoalign.demo.examples import PAIRS, Example, default_cache, examples, thumbnail
from geoalign.demo.pictures import PALETTE, mark, shown
from geoalign.demo.text import pose_in_words
from geoalign.geometry import Pose

PLAIN = Settings()


@pytest.fixture
def actions(tmp_path):
    files = [saved(tmp_path, "one.png", noise()), saved(tmp_path, "two.png", noise(200, 100, seed=1))]
    return Actions(tiny_desk(), [Example("noise", *files)], tmp_path)


@pytest.fixture
def loaded(actions):
    return actions.example(0, PLAIN)


def test_a_page_says_what_is_missing(actions):
    example = actions.examples[0]
    assert "Load two pictures" in actions.show(Pair(), PLAIN).readout
    source = actions.load("source", example.source, "one.png", Pair(), PLAIN)
    assert "Load a target" in source.readout
    assert source.target is None
    early = actions.click((5, 5), source.pair, PLAIN)
    assert "Load a target" in early.readout
    assert not early.pair.points
    both = actions.load("target", example.target, "two.png", source.pair, PLAIN)
    assert "Click a point" in both.readout
    assert "upright" in both.readout
    assert "Load a source" in actions.remove("source", both.pair, PLAIN).readout


def test_a_click_is_told_in_original_pixels(actions, loaded):
    answer = actions.click((320, 240), loaded.pair, PLAIN)  # of a picture shown at 640 x 480
    assert answer.pair.points == ((64.0, 48.0),)
    found = actions.desk.match(answer.pair, PLAIN).answer
    x, y = found.xy_px[0]
    assert "64.0, 48.0 px" in answer.readout
    assert f"{x:.1f}, {y:.1f} px" in answer.readout
    assert f"{found.score[0]:.2f}" in answer.readout
    assert f"<td>{x:.1f}, {y:.1f}</td>" in answer.table


def test_the_mark_lies_on_the_match(actions, loaded):
    answer = actions.click((320, 240), loaded.pair, PLAIN._replace(heat=False))
    found = actions.desk.match(answer.pair, PLAIN).answer.xy_px[0] * (640 / 200)
    changed = np.abs(np.asarray(answer.target, int) - np.asarray(shown(Image.fromarray(noise(200, 100, seed=1))))).sum(
        -1
    )
    assert changed[round(found[1]), round(found[0])] > 0
    assert np.asarray(answer.target)[round(found[1]), round(found[0])] == pytest.approx(PALETTE[0], abs=3)
    y, x = np.nonzero(changed)
    assert np.hypot(x - found[0], y - found[1]).max() < 34


def test_the_heat_map_can_be_off(actions, loaded):
    pair = actions.click((320, 240), loaded.pair, PLAIN).pair
    hot, cold = (np.asarray(actions.show(pair, Settings(heat=h)).target, int) for h in (True, False))
    assert (np.abs(hot - cold).sum(-1) > 20).mean() > 0.5


def test_points_stay_with_another_target_and_go_with_the_source(actions, loaded):
    pair = actions.click((320, 240), loaded.pair, PLAIN).pair
    example = actions.examples[0]
    assert actions.load("target", example.source, "one.png", pair, PLAIN).pair.points == pair.points
    assert actions.load("source", example.target, "two.png", pair, PLAIN).pair.points == ()
    assert actions.remove("target", pair, PLAIN).pair.points == pair.points
    many = pair._replace(points=pair.points * MOST_POINTS)
    refused = actions.click((1, 1), many, PLAIN)
    assert "clear them" in refused.readout
    assert refused.pair == many


def test_files_hold_the_answers(actions, loaded):
    assert actions.files(loaded.pair, PLAIN) is None
    pair = actions.click((630, 470), actions.click((10, 20), loaded.pair, PLAIN).pair, PLAIN).pair
    found = actions.desk.match(pair, PLAIN).answer
    json_path, csv_path, png_path = actions.files(pair, PLAIN)
    told = json.loads(json_path.read_text())
    assert (told["source"], told["target"], told["pose"]) == ("one.png", "two.png", "upright")
    assert np.allclose([m["target"] for m in told["matches"]], found.xy_px, atol=0.01)
    rows = list(csv.DictReader(csv_path.open()))
    assert np.allclose([[float(r["source_x"]), float(r["source_y"])] for r in rows], pair.points, atol=0.01)
    assert Image.open(png_path).height >= 480
    os.utime(png_path.parent, (0, 0))
    assert actions.files(pair, PLAIN)[2].is_file()
    assert not png_path.exists()  # nobody took it in time


def test_a_results_names_are_the_sessions_own(actions, tmp_path):
    """The same content under another name: whoever loaded it first is not told of."""
    pairs = {}
    for session in ("mine", "theirs"):
        pair = Pair()
        for role in ("source", "target"):
            path = saved(tmp_path, f"{session}-{role}.png", noise(seed=role == "target"))
            pair = actions.load(role, path, path.name, pair, PLAIN, session).pair
        pairs[session] = actions.click((5, 5), pair, PLAIN).pair
    for session, pair in pairs.items():
        told = json.loads(actions.files(pair, PLAIN)[0].read_text())
        assert (told["source"], told["target"]) == (f"{session}-source.png", f"{session}-target.png")
    assert set(pairs["mine"][:2]).isdisjoint(pairs["theirs"][:2])
    again = actions.load("source", tmp_path / "mine-source.png", "new name.png", pairs["mine"], PLAIN, "mine").pair
    assert again.source == pairs["mine"].source
    assert actions.desk.kept(again.source).name == "new name.png"


def test_an_example_that_is_gone_is_told_without_its_path(actions):
    actions.examples[0].source.unlink()
    answer = actions.example(0, PLAIN)
    assert 'role="alert"' in answer.readout
    assert str(actions.examples[0].source.parent) not in answer.readout
    assert actions.files(Pair("gone", "gone", ((1.0, 1.0),)), PLAIN) is None


def test_the_dense_tab(actions, loaded):
    assert "Load two" in actions.dense(Pair(loaded.pair.source), PLAIN).words
    dense = actions.dense(loaded.pair, PLAIN)
    assert [p.size for p in dense.pictures] == [(640, 480), (320, 640), (320, 640)]
    assert "mean score" in dense.words
    assert dense.file.stat().st_size > 1000
    assert "load it again" in actions.dense(Pair("gone", "gone"), PLAIN).words


def test_what_cannot_be_read_leaves_the_page_as_it_was(actions, loaded, tmp_path):
    pair = actions.click((320, 240), loaded.pair, PLAIN).pair
    for name in BAD:
        answer = actions.load("source", bad_file(tmp_path, name), f"<i>{name}</i>", pair, PLAIN)
        assert answer.pair == pair
        assert answer.source.size == (640, 480)
        assert "<i>" not in answer.readout
        assert 'role="alert"' in answer.readout
    gone = actions.show(Pair("gone", "gone"), PLAIN)
    assert gone.pair == Pair()
    assert "load it again" in gone.readout
    assert "load it again" in actions.click((1, 1), Pair("gone", "gone"), PLAIN).readout


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_pictures_of_a_pixel_or_a_line(actions, loaded, tmp_path, size):
    path = saved(tmp_path, "thin.png", noise(*size))
    for role in ("source", "target"):
        pair = actions.load(role, path, "thin.png", loaded.pair, PLAIN).pair
        answer = actions.click((0, 0), pair, Settings("flip"))
        assert "alert" not in answer.readout
        assert len(answer.pair.points) == 1
        assert actions.dense(pair, PLAIN).file
        assert actions.files(answer.pair, PLAIN)


def test_marks_may_lie_at_the_edge():
    picture = Image.new("RGB", (60, 40))
    assert mark(picture, np.array([[0, 0], [60, 40]])).size == picture.size
    assert np.asarray(picture).max() == 0  # a copy is drawn on


def test_poses_are_words():
    assert pose_in_words(Pose(True, 180)) == "mirrored and upside down"
    assert pose_in_words(Pose(False, 270)) == "turned 90° right"


def test_examples_are_rendered_once(tmp_path, monkeypatch):
    monkeypatch.setattr("geoalign.demo.examples.PAIRS", PAIRS[:1])
    first = examples(tmp_path)
    before = [example.source.stat().st_mtime_ns for example in first]
    assert [example.source.stat().st_mtime_ns for example in examples(tmp_path)] == before
    assert len(list(first[0].source.parent.iterdir())) == 2
    assert thumbnail(first[0]).size == (194, 96)
    monkeypatch.setenv("GEOALIGN_ROOT", str(tmp_path))
    assert default_cache() == tmp_path / "cache"
