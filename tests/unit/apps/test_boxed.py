"""The refiner in the box: used by default, one option away from none, and silent where it knows nothing."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from geoalign import publish
from geoalign.apps import boxed
from geoalign.apps.boxed import FAMILIAR, BoxedMatcher, Familiar, subject_of
from geoalign.apps.loading import load
from geoalign.backbone.lite import Lite
from geoalign.matching import Confidence, Matcher
from geoalign.refiner import Aggregation, Blend, Identity, Tail
from geoalign.refiner.base import CONFIG
from geoalign.refiner.checkpoint import WEIGHTS, write_weights

LITE = {"_target_": "geoalign.backbone.lite.Lite", "image_size": 128, "grid": 8, "cut": 13}
WIDTH = 344


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    """A box of a random tail; what is familiar is written by each test."""
    torch.manual_seed(0)
    rest = Lite(**{k: v for k, v in LITE.items() if k != "_target_"}).rest
    refiner = Tail(Blend(Aggregation(rest.network["outputs"], 8, width=32, hidden=32)), rest.network, blocks=[14])
    refiner.start(rest)
    folder = tmp_path_factory.mktemp("boxes") / "lite"
    publish.save(refiner, folder, backbone="tiny", half=True)
    around = {"backbone": LITE, "matcher": {"_target_": "geoalign.matching.Matcher", "radius": 2}}
    state = {k: v.half() if v.is_floating_point() else v for k, v in refiner.state_dict().items()}
    write_weights(state, folder / WEIGHTS, {**around, CONFIG: refiner.recipe()})
    (folder / "confidence.yaml").write_text("_target_: geoalign.matching.Confidence\nvisible: 0.5\n")
    return folder


@pytest.fixture(scope="module")
def loaded(box):
    """What ``load`` makes of it, once; nothing is familiar."""
    torch.manual_seed(1)
    save_file({"subjects": torch.randn(3, WIDTH), "least": torch.tensor(2.0)}, box / FAMILIAR)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boxed, "BOXES", box.parent)
        matcher = load("lite", device="cpu")
        matcher.frozen()
        return matcher


@pytest.fixture
def opened(loaded):
    """The same with another least familiarity."""
    return lambda least: BoxedMatcher(loaded, loaded.frozen, Familiar(loaded.familiar.subjects, least))


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (40 + 10 * i, 60, 3), dtype=np.uint8).repeat(3, 0).repeat(3, 1) for i in range(2)]


POINTS = [(30, 40), (90, 60), (120, 100)]


def test_the_box_is_the_default_and_none_is_one_option_away(opened):
    matcher = opened(-2)
    assert isinstance(matcher, BoxedMatcher)
    assert isinstance(matcher.refiner, Tail)
    assert (matcher.backbone.image_sizes, matcher.matcher.radius, matcher.confidence.visible) == ((128,), 2, 0.5)
    frozen = matcher.frozen()
    assert type(frozen.refiner) is Identity
    assert (frozen.backbone.image_sizes, frozen.matcher, frozen.confidence) == ((384,), Matcher(), Confidence())


@pytest.mark.unchecked
def test_another_refiner_is_no_option():
    with pytest.raises(ValueError, match=r"boxed or none, got 'mine'; give trained weights as the source"):
        load("lite", refiner="mine")


def test_frozen_features_of_a_saved_refiner_are_one_option_away_too(box):
    matcher = load(box, device="cpu", refiner="none")
    assert not matcher.refiner.trainable
    assert matcher.backbone.image_sizes == (128,)


def test_what_is_unlike_the_training_is_matched_by_frozen_features_to_the_bit(opened, pictures):
    source, target = pictures
    refined, matcher = opened(-2), opened(2)
    frozen = matcher.frozen()
    ours, theirs = matcher.match(source, target, POINTS), frozen.match(source, target, POINTS)
    assert np.array_equal(ours.xy_px, theirs.xy_px)
    assert np.array_equal(ours.confidence, theirs.confidence)
    assert (ours.stepped_back, theirs.stepped_back) == (True, False)
    known = refined.match(source, target, POINTS)
    assert not known.stepped_back
    assert not np.array_equal(known.score, ours.score)
    pair = matcher.picture(source), matcher.picture(target)
    for call in (
        lambda m, s, t: m.dense(s, t).confidence, lambda m, s, t: m.dense_back(s, t).xy_px,
        lambda m, s, t: m.similarity(s, t, POINTS[0]),
    ):  # fmt: skip
        assert np.array_equal(call(matcher, *pair), call(frozen, *matcher.suited(*pair)[1]), equal_nan=True)
        assert not np.array_equal(call(matcher, *pair), call(refined, source, target), equal_nan=True)
    assert matcher.dense(*pair).stepped_back
    assert matcher.choose(*pair, "flip") == frozen.choose(*matcher.suited(*pair)[1], "flip")


def test_one_unfamiliar_picture_is_enough_and_each_is_looked_at_once(opened, pictures):
    matcher = opened(0)
    known, other = (matcher.picture(one) for one in pictures)
    likeness = {picture: matcher.subject_of(picture) for picture in (known, other)}
    at = matcher.familiar.subjects
    matcher._subject_of[known], matcher._subject_of[other] = at[0], -at.sum(0)
    assert not torch.equal(*likeness.values())
    assert matcher.suited(known, known) == (matcher, (known, known))
    able, twins = matcher.suited(known, other)
    assert able is matcher.frozen()
    assert twins == matcher.suited(known, other)[1]
    answers = list(matcher.match_all(known, [known, other], POINTS))
    assert [one.stepped_back for one in answers] == [False, True]
    assert known.nbytes > sum(bank.nbytes for bank in known.banks.values())


def test_other_settings_hold_where_it_steps_back(opened, pictures):
    matcher = opened(2).reading(Matcher(readout="argmax"))
    assert matcher.frozen().matcher.readout == "argmax"
    assert matcher.match(*pictures, POINTS).stepped_back


def test_dense_says_how_sure_each_cell_is(opened, pictures):
    field = opened(-2).dense(*pictures)
    assert ((field.confidence[field.inside] >= 0) & (field.confidence[field.inside] <= 1)).all()
    assert np.isnan(field.confidence[~field.inside]).all()


def test_familiarity_is_the_nearest_subjects_cosine():
    """Of the foreground alone: a small square that differs from all around it."""
    cells, content = torch.zeros(4, 9, 9), torch.ones(9, 9, dtype=torch.bool)
    cells[0], cells[:, 3:6, 3:6] = 1, torch.tensor([0.0, 1, 0, 0])[:, None, None]
    mine = subject_of(cells, content)
    torch.testing.assert_close(mine, torch.tensor([0.0, 1, 0, 0]))
    assert Familiar(torch.stack([-mine, mine]), 0.5)(mine) == pytest.approx(1)
    assert subject_of(torch.ones(4, 9, 9), content).norm() == pytest.approx(1), "nothing to tell apart"


def test_a_damaged_box_is_one_line(tmp_path):
    save_file({"subjects": torch.zeros(3)}, tmp_path / FAMILIAR)
    with pytest.raises(ValueError, match=r"familiar.safetensors: expected subjects .* got subjects"):
        Familiar.read(tmp_path / FAMILIAR)


def test_half_precision_is_half_the_bytes(box, tmp_path):
    refiner = publish.load(box)
    publish.save(refiner, tmp_path)
    assert (tmp_path / WEIGHTS).stat().st_size > 1.7 * (box / WEIGHTS).stat().st_size
    assert {p.dtype for p in refiner.parameters()} == {torch.float32}
    assert Path(box / "README.md").is_file()


SHIPPED = boxed.BOXES / "lite"


def test_a_wheel_carries_the_box():
    package = boxed.BOXES.parent
    settings = tomllib.loads((package.parent / "pyproject.toml").read_text())
    carried = {
        path for pattern in settings["tool"]["setuptools"]["package-data"]["geoalign"] for path in package.glob(pattern)
    }
    files = {path for path in boxed.BOXES.rglob("*") if path.is_file()}
    names = {"config.json", "confidence.yaml", "familiar.safetensors", "model.safetensors", "README.md"}
    assert names == {path.name for path in files}
    assert files <= carried


def test_the_refiner_of_lite_is_small_and_says_where_it_is_from():
    assert (SHIPPED / WEIGHTS).stat().st_size < 4_000_000
    card = (SHIPPED / "README.md").read_text()
    for told in ("LivestockKeypoints v1.0", "Yiwei Wang", "CC BY 4.0", "make box", "cattleB", "steps back"):
        assert told in card
    matcher = load("lite", device="cpu")
    assert isinstance(matcher, BoxedMatcher)
    assert matcher.backbone.image_sizes == (640,)
    assert matcher.confidence != Confidence()
    assert matcher.familiar.subjects.shape == (8, 344)
