"""Matching any two pictures: coordinates, poses, how often the backbone runs, and bad input."""

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.tiny import TinyBackbone
from PIL import Image

from geoalign.apps.inputs import checked_points, open_picture, partners
from geoalign.apps.matcher import ImageMatcher
from geoalign.apps.picture import Picture
from geoalign.data.records import DataError
from geoalign.geometry import FLIP, UPRIGHT
from geoalign.matching import Matcher
from geoalign.refiner import Identity


class Counted(TinyBackbone):
    """Counts the views it has seen."""

    views = 0

    def extract(self, images):
        self.views += len(next(iter(images.values())))
        return super().extract(images)


@pytest.fixture
def matcher():
    backbone = Counted(image_size=128)
    refiner = Identity(backbone.channels, backbone.grid, backbone.groups)
    return ImageMatcher(backbone, refiner, Matcher(readout="argmax"))


def noise(h=96, w=128, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (h, w, 3), dtype=np.uint8)


def test_a_picture_finds_itself_in_its_own_pixels(matcher):
    picture = noise(300, 400)
    points = np.array([[30.0, 40.0], [200.0, 150.0], [390.0, 290.0]])
    answer = matcher.match(picture, picture, points)
    assert np.abs(answer.xy_px - points).max() <= 400 / 16 / 2 + 1  # half a cell
    assert answer.score.min() > 0.5
    assert answer.pose == UPRIGHT


def test_a_shift_of_the_target_shifts_the_answer(matcher):
    wide = noise(128, 256)
    source, target = wide[:, :128], wide[:, 64:192]  # 64 px are eight cells
    answer = matcher.match(source, target, [(100, 60)])
    assert np.abs(answer.xy_px[0] - [36, 60]).max() <= 8


@pytest.mark.parametrize("align", ["flip", "rotate"])
def test_a_mirrored_target_is_matched_mirrored(matcher, align):
    picture = noise()
    answer = matcher.match(picture, picture[:, ::-1], [(20, 50)], align=align)
    assert answer.pose == FLIP
    assert np.abs(answer.xy_px[0] - [108, 50]).max() <= 8


def test_mirror_pairs_read_the_partner(matcher):
    picture = noise()
    points = [(20, 50), (90, 30)]
    plain = matcher.match(picture, picture[:, ::-1], points, "flip")
    swapped = matcher.match(picture, picture[:, ::-1], points, "flip", mirror_pairs=[(0, 1)])
    assert np.allclose(plain.xy_px, swapped.xy_px[::-1])


def scenes():
    """A small subject somewhere in each of two large pictures, and five of its points."""
    subject = np.kron(noise(4, 4, seed=3), np.ones((60, 60, 1), np.uint8))
    source, target = (np.full((640, 640, 3), 127, np.uint8) for _ in range(2))
    source[360:600, 40:280], target[40:280, 320:560] = subject, subject
    points = np.array([[60.0, 380.0], [200.0, 420.0], [100.0, 520.0], [250.0, 570.0], [150.0, 470.0]])
    return source, target, points, points + [280, -320]


def test_a_second_look_places_a_small_subject_better(matcher):
    source, target, points, truth = scenes()
    once, twice = (matcher.match(source, target, points, look=look) for look in ("once", "twice"))
    error = [np.linalg.norm(answer.xy_px - truth, axis=1).mean() for answer in (once, twice)]
    assert error[1] < error[0] / 2
    assert ((twice.confidence >= 0) & (twice.confidence <= 1)).all()
    assert twice.confidence.shape == (5,)


def test_a_second_look_costs_a_view_each_and_crops_the_source_once(matcher):
    source, target, points, _ = scenes()
    list(matcher.match_all(source, [target, target[::-1]], points, look="twice"))
    assert matcher.backbone.views == 3 + 3


def test_a_second_look_takes_upright_sources(matcher):
    with pytest.raises(ValueError, match="look is once, or twice with align=off, got 'twice' with align='flip'"):
        matcher.match(noise(), noise(), [(5, 5)], align="flip", look="twice")


def test_the_source_is_looked_at_once(matcher):
    answers = list(matcher.match_all(noise(), [noise(seed=i) for i in range(1, 4)], [(5, 5)]))
    assert len(answers) == 3
    assert matcher.backbone.views == 4


def test_a_view_costs_nothing_the_second_time(matcher):
    source, target = matcher.picture(noise()), matcher.picture(noise(seed=1))
    first = matcher.match(source, target, [(5, 5)], "flip")
    seen = matcher.backbone.views
    again = matcher.match(source, target, [(5, 5)], "flip")
    matcher.similarity(source, target, (5, 5))
    matcher.dense(source, target)
    assert matcher.backbone.views == seen == 3
    assert np.array_equal(first.xy_px, again.xy_px)


def test_answers_stay_on_the_target(matcher):
    tall = noise(128, 20, seed=3)
    answer = matcher.match(noise(), tall, [(x, 50) for x in range(0, 128, 8)])
    assert ((answer.xy_px >= 0) & (answer.xy_px <= [20, 128])).all()


def test_a_dense_field_agrees_with_points(matcher):
    source, target = matcher.picture(noise()), matcher.picture(noise(seed=1))
    field = matcher.dense(source, target)
    at = field.inside
    points = matcher.match(source, target, field.src_xy_px[at])
    assert np.allclose(points.xy_px, field.xy_px[at], atol=1e-3)
    assert np.isnan(field.xy_px[~at]).all()
    assert (~at).any()  # the bars of a wide picture


def test_a_mask_limits_the_field(matcher):
    mask = np.zeros((96, 128), bool)
    mask[:, :64] = True
    field = matcher.dense(noise(), noise(seed=1), mask)
    assert field.src_xy_px[field.inside][:, 0].max() < 64
    with pytest.raises(ValueError, match="source's size"):
        matcher.dense(noise(), noise(), mask.T)


def test_a_subject_is_what_stands_apart_or_lies_in_the_box(matcher):
    source, truth = np.full((640, 640, 3), 20, np.uint8), np.zeros((640, 640), bool)
    truth[200:440, 160:400] = True
    source[200:440, 160:400] = np.kron(200 + noise(4, 4, seed=3) % 55, np.ones((60, 60, 1), np.uint8))
    found = matcher.subject(source)
    assert (found.mask & truth).sum() / truth.sum() > 0.8
    assert (found.mask & truth).sum() / found.mask.sum() > 0.5
    assert not found.doubt
    nothing = matcher.subject(np.full((64, 64, 3), 127, np.uint8))
    assert nothing.doubt
    boxed = matcher.subject(matcher.picture(np.full((64, 64, 3), 127, np.uint8), (8, 8, 40, 56)))
    assert not boxed.doubt
    y, x = np.nonzero(boxed.mask)
    assert [x.min(), y.min(), x.max() + 1, y.max() + 1] == pytest.approx([8, 8, 40, 56], abs=3)


@pytest.mark.parametrize("align", ["off", "flip", "rotate"])
def test_matches_lie_in_the_targets_box(matcher, align):
    box = (64, 20, 110, 60)
    target = matcher.picture(noise(seed=1), box)
    found = matcher.match(noise(), target, [(x, 50) for x in range(0, 128, 8)], align).xy_px
    assert ((found >= np.array(box[:2]) - 8) & (found <= np.array(box[2:]) + 8)).all()
    assert matcher.picture(target).box_px == box
    tiny = matcher.match(noise(), matcher.picture(noise(), (70, 50, 70.5, 50.5)), [(5, 5)]).xy_px
    assert np.abs(tiny - [70, 50]).max() <= 12


@pytest.mark.parametrize(
    ("box", "told"),
    [
        ((9, 0, 3, 5), "x1 < x2"),
        ((0, 0, float("nan"), 5), "x1 < x2"),
        ((200, 0, 300, 5), "outside"),
        ((1, 2), "x1, y1"),
    ],
)
def test_boxes_that_are_none(matcher, box, told):
    with pytest.raises(ValueError, match=told):
        matcher.picture(noise(), box)


def test_going_back_undoes_the_flip(matcher):
    picture = noise()
    field = matcher.dense_back(picture, picture[:, ::-1], FLIP)
    mirrored = field.src_xy_px[field.inside] * [-1, 1] + [128, 0]
    assert np.median(np.abs(field.xy_px[field.inside] - mirrored)) <= 4


def test_similarity_peaks_at_the_match(matcher):
    source, target = matcher.picture(noise()), matcher.picture(noise(seed=1))
    answer = matcher.match(source, target, [(60, 40)])
    heat = matcher.similarity(source, target, (60, 40))
    assert np.nanmax(heat) == pytest.approx(answer.score[0], abs=1e-5)
    assert np.isnan(heat[0]).all()


def test_features_are_unit_vectors(matcher):
    features = matcher.features(noise())
    assert features.shape == (16, 16, 16)
    assert torch.allclose(features.norm(dim=0), torch.ones(16, 16), atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_pictures_of_a_pixel_or_a_line(matcher, size):
    answer = matcher.match(noise(*size), noise(), [(0.5, 0.5)], "flip")
    assert np.isfinite(answer.xy_px).all()
    assert matcher.match(noise(), noise(*size), [(5, 5)]).xy_px.max() <= max(size)
    assert matcher.dense(noise(*size), noise()).inside.any()


def test_identical_pictures_choose_upright(matcher):
    assert matcher.choose(noise(), noise(), "rotate") == UPRIGHT


@pytest.mark.parametrize(
    ("points", "told"),
    [([(128.5, 3)], "outside"), ([(-1, 3)], "outside"), ([(float("nan"), 3)], "outside"), ([3], "shape")],
)
def test_points_that_are_none(matcher, points, told):
    with pytest.raises(ValueError, match=told):
        matcher.match(noise(), noise(), points)


def test_no_points_are_no_answers(matcher):
    assert matcher.match(noise(), noise(), np.zeros((0, 2))).xy_px.shape == (0, 2)


@pytest.mark.unchecked
def test_settings_are_checked(matcher):
    with pytest.raises(ValueError, match="off, flip, rotate"):
        matcher.match(noise(), noise(), [(1, 1)], align="mirror")
    for pairs in ([(0, 0)], [(0, 3)], [(0, 1), (1, 2)]):
        with pytest.raises(ValueError, match="mirror_pairs"):
            partners(3, pairs)
    assert checked_points([(0, 0), (6, 4)], (4, 6)).shape == (2, 2)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "P", "1", "I;16"])
def test_pictures_of_any_mode(mode, tmp_path):
    grey = Image.fromarray(np.full((4, 6), 200, np.uint8))
    image = Image.fromarray(np.full((4, 6), 200 * 256, np.uint16)) if mode == "I;16" else grey.convert(mode)
    assert open_picture(image).mode == "RGB"
    assert open_picture(image).size == (6, 4)


def test_ways_to_give_a_picture(tmp_path):
    path = tmp_path / "a b.png"
    Image.fromarray(noise()).save(path)
    ways = [path, str(path), path.as_uri(), path.open("rb"), io.BytesIO(path.read_bytes()), Image.open(path), noise()]
    pictures = [np.asarray(open_picture(way)) for way in ways]
    assert all(np.array_equal(p, noise()) for p in pictures)
    ways[3].close()


def test_orientation_is_obeyed_and_frames_after_the_first_are_not(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(noise()).save(tmp_path / "turned.jpg", exif=exif)
    for way in (tmp_path / "turned.jpg", Image.open(tmp_path / "turned.jpg")):
        assert Picture(open_picture(way)).size == (128, 96)
    frames = [Image.fromarray(np.full((4, 6), v, np.uint8)) for v in (0, 255)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert np.asarray(open_picture(tmp_path / "moving.gif")).max() == 0


@pytest.mark.unchecked
def test_what_is_no_picture(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    bad = [tmp_path / "empty.jpg", tmp_path / "text.jpg", tmp_path / "none.jpg", 3, io.BytesIO(b""), io.BytesIO(b"x")]
    bad += ["https://example.org/cat.jpg", np.zeros((4, 6)), np.zeros((4, 6, 2), np.uint8), np.zeros((0, 6), np.uint8)]
    bad += [Image.new("1", (20_000, 15_000))]
    for image in bad:
        with pytest.raises(DataError):
            open_picture(image)


def test_the_package_is_imported_fast():
    code = "import sys, geoalign; print('torch' in sys.modules, 'PIL' in sys.modules, hasattr(geoalign, 'nothing'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "False"]
