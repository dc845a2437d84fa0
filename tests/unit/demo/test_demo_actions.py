"""Events of the web page: what is shown after each, the files to take away, and bad input."""

import csv
import json
import os

import numpy as np
import pytest
from helpers.desk import BAD, bad_file, noise, saved, tiny_desk
from PIL import Image

from geoalign.apps.labelled import read_labels
from geoalign.data import ImageFolder
from geoalign.data.readers.folder_points import read_points
from geoalign.demo import pair as steps
from geoalign.demo.actions import Actions
from geoalign.demo.desk import Settings
from geoalign.demo.examples import PAIRS, Example, default_cache, examples, photographs, thumbnail
from geoalign.demo.labelling import forget, keep
from geoalign.demo.pair import MOST_POINTS, Mark, Pair
from geoalign.demo.pictures import PALETTE, mark, shown
from geoalign.demo.taken import Taken
from geoalign.demo.text import labels_words, pose_in_words
from geoalign.demo.typed import box, mirror_pairs, place
from geoalign.geometry import Pose

PLAIN = Settings()


@pytest.fixture
def actions(tmp_path):
    files = [saved(tmp_path, "one.png", noise()), saved(tmp_path, "two.png", noise(200, 100, seed=1))]
    return Actions(tiny_desk(), [Example("noise", *files)])


@pytest.fixture
def taken(actions, tmp_path):
    return Taken(actions, tmp_path)


def click(actions, xy_px, pair, settings=PLAIN, role="source"):
    return actions.touch(role, None, xy_px, pair, settings)


@pytest.fixture
def loaded(actions):
    return actions.example(0, Pair(), PLAIN)


def test_a_page_says_what_is_missing(actions):
    example = actions.examples[0]
    assert "Load two pictures" in actions.show(Pair(), PLAIN).readout
    source = actions.load("source", example.source, "one.png", Pair(), PLAIN)
    assert "Load a target" in source.readout
    assert source.target is None
    early = click(actions, (5, 5), source.pair, PLAIN)
    assert "Load a target" in early.readout
    assert not early.pair.marks
    both = actions.load("target", example.target, "two.png", source.pair, PLAIN)
    assert "Click a point" in both.readout
    assert "upright" in both.readout
    assert "Load a source" in actions.remove("source", both.pair, PLAIN).readout


def test_a_click_is_told_in_original_pixels(actions, loaded):
    answer = click(actions, (320, 240), loaded.pair, PLAIN)  # of a picture shown at 640 x 480
    assert answer.pair.points == ((64.0, 48.0),)
    found = actions.desk.match(answer.pair, PLAIN).answer
    x, y = found.xy_px[0]
    assert "64.0, 48.0 px" in answer.readout
    assert f"{x:.1f}, {y:.1f} px" in answer.readout
    assert f"{found.score[0]:.2f}" in answer.readout
    assert f"<td>{x:.1f}, {y:.1f}</td>" in answer.table


def test_the_mark_lies_on_the_match(actions, loaded):
    answer = click(actions, (320, 240), loaded.pair, PLAIN._replace(heat=False))
    found = actions.desk.match(answer.pair, PLAIN).answer.xy_px[0] * (640 / 200)
    changed = np.abs(np.asarray(answer.target, int) - np.asarray(shown(Image.fromarray(noise(200, 100, seed=1))))).sum(
        -1
    )
    assert changed[round(found[1]), round(found[0])] > 0
    assert np.asarray(answer.target)[round(found[1]), round(found[0])] == pytest.approx(PALETTE[0], abs=3)
    y, x = np.nonzero(changed)
    assert np.hypot(x - found[0], y - found[1]).max() < 34


def test_the_heat_map_can_be_off(actions, loaded):
    pair = click(actions, (320, 240), loaded.pair, PLAIN).pair
    hot, cold = (np.asarray(actions.show(pair, Settings(heat=h)).target, int) for h in (True, False))
    assert (np.abs(hot - cold).sum(-1) > 20).mean() > 0.5


def test_points_stay_with_another_target_and_go_with_the_source(actions, loaded):
    pair = click(actions, (320, 240), loaded.pair, PLAIN).pair
    example = actions.examples[0]
    assert actions.load("target", example.source, "one.png", pair, PLAIN).pair.points == pair.points
    assert actions.load("source", example.target, "two.png", pair, PLAIN).pair.points == ()
    assert actions.remove("target", pair, PLAIN).pair.points == pair.points
    many = pair._replace(marks=pair.marks * MOST_POINTS)
    refused = click(actions, (1, 1), many, PLAIN)
    assert "clear them" in refused.readout
    assert refused.pair == many


def test_files_hold_the_answers(actions, taken, loaded):
    assert taken.matches(loaded.pair, PLAIN) is None
    pair = click(actions, (630, 470), click(actions, (10, 20), loaded.pair, PLAIN).pair, PLAIN).pair
    found = actions.desk.match(pair, PLAIN).answer
    json_path, csv_path, png_path = taken.matches(pair, PLAIN)
    told = json.loads(json_path.read_text())
    assert (told["source"], told["target"], told["pose"]) == ("one.png", "two.png", "upright")
    assert np.allclose([m["target"] for m in told["matches"]], found.xy_px, atol=0.01)
    rows = list(csv.DictReader(csv_path.open()))
    assert np.allclose([[float(r["source_x"]), float(r["source_y"])] for r in rows], pair.points, atol=0.01)
    assert Image.open(png_path).height >= 480
    os.utime(png_path.parent, (0, 0))
    assert taken.matches(pair, PLAIN)[2].is_file()
    assert not png_path.exists()  # nobody took it in time


def test_a_results_names_are_the_sessions_own(actions, taken, tmp_path):
    """The same content under another name: whoever loaded it first is not told of."""
    pairs = {}
    for session in ("mine", "theirs"):
        pair = Pair()
        for role in ("source", "target"):
            path = saved(tmp_path, f"{session}-{role}.png", noise(seed=role == "target"))
            pair = actions.load(role, path, path.name, pair, PLAIN, session).pair
        pairs[session] = click(actions, (5, 5), pair, PLAIN).pair
    for session, pair in pairs.items():
        told = json.loads(taken.matches(pair, PLAIN)[0].read_text())
        assert (told["source"], told["target"]) == (f"{session}-source.png", f"{session}-target.png")
    assert set(pairs["mine"][:2]).isdisjoint(pairs["theirs"][:2])
    again = actions.load("source", tmp_path / "mine-source.png", "new name.png", pairs["mine"], PLAIN, "mine").pair
    assert again.source == pairs["mine"].source
    assert actions.desk.kept(again.source).name == "new name.png"


def test_an_example_that_is_gone_is_told_without_its_path(actions, taken):
    actions.examples[0].source.unlink()
    answer = actions.example(0, Pair(), PLAIN)
    assert 'role="alert"' in answer.readout
    assert str(actions.examples[0].source.parent) not in answer.readout
    assert taken.matches(Pair("gone", "gone", (Mark("1", (1.0, 1.0)),)), PLAIN) is None


def test_the_dense_tab(taken, loaded):
    assert "Load two" in taken.dense(Pair(loaded.pair.source), PLAIN).words
    dense = taken.dense(loaded.pair, PLAIN)
    assert [p.size for p in dense.pictures] == [(640, 480), (320, 640), (320, 640)]
    assert "mean similarity" in dense.words
    assert dense.file.stat().st_size > 1000
    assert "load it again" in taken.dense(Pair("gone", "gone"), PLAIN).words


def test_what_cannot_be_read_leaves_the_page_as_it_was(actions, loaded, tmp_path):
    pair = click(actions, (320, 240), loaded.pair, PLAIN).pair
    for name in BAD:
        answer = actions.load("source", bad_file(tmp_path, name), f"<i>{name}</i>", pair, PLAIN)
        assert answer.pair == pair
        assert answer.source.size == (640, 480)
        assert "<i>" not in answer.readout
        assert 'role="alert"' in answer.readout
    gone = actions.show(Pair("gone", "gone"), PLAIN)
    assert gone.pair == Pair()
    assert "load it again" in gone.readout
    assert "load it again" in click(actions, (1, 1), Pair("gone", "gone"), PLAIN).readout


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_pictures_of_a_pixel_or_a_line(actions, taken, loaded, tmp_path, size):
    path = saved(tmp_path, "thin.png", noise(*size))
    for role in ("source", "target"):
        pair = actions.load(role, path, "thin.png", loaded.pair, PLAIN).pair
        answer = click(actions, (0, 0), pair, Settings("flip"))
        assert "alert" not in answer.readout
        assert len(answer.pair.points) == 1
        assert taken.dense(pair, PLAIN).file
        assert taken.matches(answer.pair, PLAIN)


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


def test_a_match_is_corrected_by_a_click_or_a_drag(actions, taken, loaded):
    pair = click(actions, (500, 100), click(actions, (320, 240), loaded.pair).pair).pair
    assert pair.chosen == 1
    put = click(actions, (160, 320), pair, role="target").pair  # shown at 320 x 640, so 3.2 px a px
    assert put.marks[1].fixed_px == (50.0, 100.0)
    assert put.marks[0].fixed_px is None
    told = actions.show(put, PLAIN)
    assert "50.0, 100.0 px" in told.readout
    assert "corrected" in told.table
    dragged = actions.touch("target", (160, 320), (96, 160), put, PLAIN).pair
    assert dragged.marks[1].fixed_px == (30.0, 50.0)
    moved = actions.touch("source", (500, 100), (600, 200), dragged, PLAIN).pair
    assert moved.marks[1] == Mark("2", (120.0, 40.0))  # what was said of its match no longer holds
    assert click(actions, (601, 199), moved._replace(chosen=0)).pair.chosen == 1
    rows = list(csv.DictReader(taken.matches(steps.hidden(put._replace(chosen=0)), PLAIN)[1].open()))
    assert [row["state"] for row in rows] == ["hidden", "corrected"]
    assert float(rows[1]["target_x"]) == 50
    back = put
    for _ in range(len(put.past)):
        back = back.undone()
    assert back == Pair()
    assert "nothing to undo" in actions.edit(back, PLAIN, Pair.undone).readout


def test_a_drag_elsewhere_draws_a_box_that_matches_lie_in(actions, loaded):
    pair = click(actions, (320, 240), loaded.pair).pair
    boxed = actions.touch("target", (20, 400), (300, 620), pair, PLAIN).pair
    assert boxed.target_box == (6.25, 125.0, 93.75, 193.75)
    x, y = actions.desk.match(boxed, PLAIN).answer.xy_px[0]
    assert 0 <= x <= 100
    assert 120 <= y <= 200
    assert actions.desk.match(steps.cleared(boxed)._replace(marks=pair.marks), PLAIN).answer.xy_px[0] == pytest.approx(
        actions.desk.match(pair, PLAIN).answer.xy_px[0]
    )


def test_a_closer_look_at_a_point_tells_the_same_places(actions, loaded):
    pair = click(actions, (320, 240), loaded.pair).pair
    closer = PLAIN._replace(zoom=4.0)
    assert actions.show(pair, closer).source.size == (640, 480)
    again = click(actions, (320 + 40, 240), pair, closer).pair  # 40 px on the page are 2 px of the picture
    assert again.marks[1].xy_px == (66.0, 48.0)


def test_saved_labels_are_what_adapt_and_training_read(actions, taken, loaded, tmp_path):
    """The loop: points, corrections, labels, and the same points come back from both files and both readers."""
    pair = loaded.pair
    for xy_px in ((320, 240), (500, 100), (100, 400), (40, 60)):
        pair = click(actions, xy_px, pair).pair
    for number, xy_px in enumerate([(160, 320), (96, 160), (200, 500)]):
        pair = click(actions, xy_px, pair._replace(chosen=number), role="target").pair
    pair = steps.hidden(pair._replace(chosen=3))
    pair = steps.renamed(pair._replace(chosen=0), "left eye")
    kept = keep(pair, actions.scene(pair, PLAIN), "sheep")
    assert "2 pictures with labels" in labels_words(kept)
    places = {"left eye": (50.0, 100.0), "2": (30.0, 50.0), "3": (62.5, 156.25), "4": None}
    assert kept.labels[1][1].points == places
    files = taken.labels(kept)
    shown = {name: xy for name, xy in places.items() if xy}
    for path in files:
        assert read_points(path)["two.png"].points == places
        assert read_points(path)["two.png"].category == "sheep"
        assert read_labels(path)["two.png"] == shown
        assert read_labels(path)["one.png"] == dict(zip(pair.names, pair.points, strict=True))
        pairs = ImageFolder(tmp_path, keypoints=path, category="sheep")
        assert len(pairs) == 2
        assert pairs.images[1].visible.sum() == 3
    with pytest.raises(ValueError, match="nothing to keep"):
        keep(Pair(), actions.scene(Pair(), PLAIN), "")
    (tmp_path / "other").mkdir()
    namesake = saved(tmp_path / "other", "two.png", noise(seed=7))
    third = click(actions, (9, 9), actions.load("target", namesake, "two.png", kept, PLAIN).pair).pair
    with pytest.raises(ValueError, match=r"called two\.png"):
        keep(third, actions.scene(third, PLAIN), "sheep")
    assert forget(kept).labels == ()


def test_what_cannot_be_had_is_said_beside_the_match(actions, loaded, tmp_path):
    mirrored = saved(tmp_path, "mirrored.png", np.ascontiguousarray(noise()[:, ::-1]))
    pair = actions.load("target", mirrored, "mirrored.png", loaded.pair, PLAIN).pair
    pair = click(actions, (500, 100), click(actions, (100, 240), pair).pair).pair
    flip = Settings("flip", twice=True)
    told = actions.show(pair, flip).readout
    assert "left and right trade places" in told
    assert "second look" in told
    assert "trade places" not in actions.show(pair, flip._replace(mirrors="1-2")).readout
    assert "names no two" in actions.show(pair, flip._replace(mirrors="1-9")).readout
    once, twice = (actions.desk.match(pair, Settings(twice=twice)).answer.xy_px for twice in (False, True))
    assert not np.allclose(once, twice)


def test_what_is_typed_and_cannot_be_read():
    size = (100, 200)
    assert place("10; 20.5", size) == (10, 20.5)
    assert box("", size) is None
    assert mirror_pairs("a-b - c, d:e", ["a-b", "c", "d", "e"]) == [(0, 1), (2, 3)]
    for call, told in (
        (lambda: place("10", size), "x, y in px"), (lambda: place("nan, 3", size), "x, y in px"),
        (lambda: place("10, 300", size), "outside"), (lambda: box("1, 2, 3", size), "x1, y1, x2, y2"),
        (lambda: box("9, 9, 3, 20", size), "x1 < x2"), (lambda: mirror_pairs("a-a", ["a"]), "another point"),
        (lambda: steps.renamed(Pair(marks=(Mark("1", (0, 0)), Mark("2", (0, 0)))), "2"), "given once"),
        (lambda: steps.renamed(Pair(marks=(Mark("1", (0, 0)),)), " "), "one letter"),
        (lambda: steps.dropped(Pair()), "Click a point"), (lambda: forget(Pair()), "No labels"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=told):
            call()


def test_a_folders_photographs_take_the_free_place(actions, tmp_path):
    (tmp_path / "own" / "cats").mkdir(parents=True)
    saved(tmp_path / "own" / "cats", "a.png", noise())
    (tmp_path / "own" / "broken.png").write_text("no picture")
    actions.examples = photographs(tmp_path / "own")
    assert [one.caption for one in actions.examples] == ["broken.png", "cats/a.png"]
    assert thumbnail(actions.examples[0]).size == (96, 96)
    first = actions.example(1, Pair(), PLAIN)
    assert actions.desk.kept(first.pair.source).name == "cats/a.png"
    assert actions.example(1, first.pair, PLAIN).pair.target
    assert "alert" in actions.example(0, first.pair, PLAIN).readout
