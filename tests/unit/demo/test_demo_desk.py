"""What the web page remembers: how often it looks, what it forgets, and what it says of bad files."""

import io
import time

import numpy as np
import pytest
from helpers.desk import bad_file, noise, saved, tiny_desk
from PIL import Image

import geoalign
from geoalign.apps.matcher import ImageMatcher
from geoalign.demo import desk as desk_module
from geoalign.demo.actions import Actions
from geoalign.demo.desk import PIXEL_BYTES, Desk, Settings
from geoalign.demo.pair import Mark, Pair
from geoalign.files import sha256
from geoalign.geometry import FLIP
from geoalign.matching import Aligned


@pytest.fixture
def files(tmp_path):
    """A picture, its mirror image, and another."""
    pixels = (noise(), np.ascontiguousarray(noise()[:, ::-1]), noise(seed=1))
    return [saved(tmp_path, f"{i}.png", p) for i, p in enumerate(pixels)]


def pair_on(desk, files, *points):
    return Pair(desk.open(files[0]), desk.open(files[1]), marks(*points))


def marks(*points):
    return tuple(Mark(str(i + 1), point) for i, point in enumerate(points))


def test_content_is_opened_once(files, tmp_path):
    desk = tiny_desk()
    keys = [desk.open(path) for path in files]
    assert len(set(keys)) == 3
    assert desk.matcher.backbone.views == 3
    again = tmp_path / "copy.png"
    again.write_bytes(files[0].read_bytes())
    assert desk.open(again, "other name") == keys[0]
    assert desk.matcher.backbone.views == 3


def test_a_click_looks_at_nothing_and_chooses_no_pose_again(files, monkeypatch):
    desk, calls = tiny_desk(), []
    whole = Aligned.choose
    monkeypatch.setattr(Aligned, "choose", lambda *a: calls.append(a) or whole(*a))
    pair = pair_on(desk, files)
    for i in range(1, 5):
        found = desk.match(pair._replace(marks=marks(*[(20.0, 50.0)] * i)), Settings("flip"))
        assert found.answer.pose == FLIP
    desk.dense(pair, Settings("flip", "soft"))
    assert len(calls) == 1
    assert desk.matcher.backbone.views == 3  # both upright, the source mirrored
    desk.match(pair, Settings("rotate"))
    desk.match(Pair(pair.source, desk.open(files[2])), Settings("flip"))
    assert len(calls) == 3  # other poses; another target


def test_answers_are_the_matchers(files):
    desk, point = tiny_desk(), (33.0, 40.0)
    for readout in ("argmax", "soft", "window", "kernel"):
        found = desk.match(pair_on(desk, files, point), Settings("flip", readout))
        own = ImageMatcher(desk.matcher.backbone, desk.matcher.refiner, type(desk.matcher.matcher)(readout=readout))
        wanted = own.match(files[0], files[1], [point], "flip")
        assert np.array_equal(found.answer.xy_px, wanted.xy_px)
        assert found.answer.pose == wanted.pose
        assert np.nanmax(found.heat) == pytest.approx(float(wanted.score[0]), abs=1e-5)


def test_the_refiner_can_be_left_out(files):
    desk = tiny_desk(refined=True)
    assert desk.has_refiner
    points = tuple((float(x), 50.0) for x in range(4, 128, 8))
    pair = Pair(desk.open(files[0]), desk.open(files[2]), marks(*points))
    with_it, without = (desk.match(pair, Settings(refined=r)).answer for r in (True, False))
    assert not np.allclose(with_it.score, without.score)
    plain = tiny_desk()
    assert not plain.has_refiner
    again = plain.match(Pair(*map(plain.open, (files[0], files[2])), marks(*points)), Settings()).answer
    assert np.allclose(again.score, without.score)


def test_what_was_used_long_ago_makes_room(files):
    desk = tiny_desk(budget=1)
    keys = [desk.open(path) for path in files]
    desk.match(Pair(keys[1], keys[2], marks((1.0, 1.0))), Settings())
    with pytest.raises(ValueError, match="load it again"):
        desk.match(Pair(keys[0], keys[1]), Settings())
    assert desk.kept(keys[1]).bytes > 3 * 96 * 128


def test_pictures_that_were_only_uploaded_make_room_too(tmp_path, monkeypatch):
    files = [saved(tmp_path, f"{i}.png", noise(200, 300, seed=i)) for i in range(9)]
    one = tiny_desk()
    one.open(files[0])
    desk, decode = tiny_desk(budget=int(3.5 * one.bytes), share=10**9), desk_module.open_rgb

    def checked(path, **how):
        assert desk.bytes + PIXEL_BYTES * 200 * 300 <= desk.budget  # before a pixel is decoded
        return decode(path, **how)

    monkeypatch.setattr(desk_module, "open_rgb", checked)
    for i, path in enumerate(files):
        desk.open(path, session=f"tab {i // 2}")
        assert desk.bytes <= desk.budget
    kept = [i for i, path in enumerate(files) if f"tab {i // 2}/{sha256(path)}" in desk._kept]
    assert kept == [6, 7, 8]


def test_one_session_does_not_push_out_another(tmp_path):
    files = [saved(tmp_path, f"{i}.png", noise(200, 300, seed=i)) for i in range(9)]
    one = tiny_desk()
    one.open(files[0])
    desk = tiny_desk(budget=5 * one.bytes, share=3 * one.bytes)
    mine = [desk.open(path, session="mine") for path in files[:2]]
    theirs = [desk.open(path, session="theirs") for path in files]
    assert all(desk.kept(key) for key in (*mine, *theirs[-3:]))
    with pytest.raises(ValueError, match="load it again"):
        desk.kept(theirs[5])
    desk.forget("theirs")
    assert desk.bytes == 2 * one.bytes


def test_what_matching_adds_is_counted(files):
    desk = tiny_desk(refined=True, budget=1)
    keys = [desk.open(path) for path in files]
    before = desk.bytes
    desk.dense(Pair(keys[1], keys[2]), Settings("rotate", refined=False))
    assert desk.bytes > before
    desk.match(Pair(keys[2], keys[2], marks((1.0, 1.0))), Settings())
    with pytest.raises(ValueError, match="load it again"):
        desk.kept(keys[1])


def test_bad_files_are_told_in_words_without_paths(tmp_path):
    words = {"text": "not a picture", "empty": "0 bytes", "huge": "too many pixels", "cut": "not complete"}
    for name in words:
        path = bad_file(tmp_path, name)
        with pytest.raises(ValueError, match=words[name]) as error:
            tiny_desk().open(path, f"{name}.png")
        assert str(error.value).startswith(f"{name}.png ")
        assert str(tmp_path) not in str(error.value)


@pytest.mark.unchecked
@pytest.mark.untraced
def test_first_answer_and_clicks_are_quick(tmp_path):
    """Two photographs of 12 million pixels with ``lite``: CPU time, so that a busy machine is not a failure."""
    desk = Desk(geoalign.load("lite"))
    small = [Image.fromarray(noise(30, 40, seed)) for seed in range(2)]
    for i, picture in enumerate(small):
        picture.resize((4000, 3000)).save(tmp_path / f"{i}.jpg")
    actions, settings = Actions(desk, []), Settings("flip")
    start = time.process_time()
    shown = actions.load("source", tmp_path / "0.jpg", "0.jpg", Pair(), settings)
    shown = actions.load("target", tmp_path / "1.jpg", "1.jpg", shown.pair, settings)
    uploads, clicks = time.process_time() - start, []
    for i in range(5):
        start = time.process_time()
        shown = actions.touch("source", None, (100 + 60 * i, 200), shown.pair, settings)
        for picture in (shown.source, shown.target):
            picture.save(io.BytesIO(), "jpeg")
        clicks.append(time.process_time() - start)
    print(f"uploads {uploads:.2f} s, clicks {[round(1000 * c) for c in clicks]} ms")
    assert uploads + clicks[0] < 4  # two uploads; about 1 s where nothing else runs
    assert min(clicks) < 0.15
