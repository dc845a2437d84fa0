"""A head by its option: trained, tested, saved, and loaded for own pictures."""

import pytest
import torch
from helpers import scripts

import evaluate
import geoalign
import train
from geoalign import publish
from geoalign.results.summary import read_summary

SMALL = [
    "backbone.image_size=128", "backbone.grid=16", "backbone.blocks=[4,10]", "refiner.width=32", "refiner.hidden=32",
    "callbacks.progress=null", "data.images={trn: 4, val: 2, test: 3}", "data.pairs={trn: 12, val: 2, test: 4}",
    "data.categories=[cat]", "baseline=false", "trainer.max_epochs=1", "data.sampler.size=3", "data.sampler.batches=2",
]  # fmt: skip
HEADS = {"upsample": ["head.finer=2"], "field": ["head.finer=2", "head.around=2"]}
EXTERNAL = [
    "head=external",
    "head.finer=2",
    "head.image_size=64",
    "head.upsampler={_target_: helpers.pixels.PixelUpsampler}",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("heads")


@pytest.mark.parametrize("head", sorted(HEADS))
def test_a_head_is_trained_tested_and_loaded(root, head):
    words = [f"paths.root={root}", *SMALL, f"head={head}", *HEADS[head]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hydra._internal.utils.is_under_debugger", lambda: False)
        assert scripts.call(train, *words, f"hydra.run.dir={root}/{head}") == 0
        test = [word for word in words if "trainer" not in word and "sampler" not in word and "baseline" not in word]
        again = [f"checkpoint={root}/{head}", f"hydra.run.dir={root}/{head}-again"]
        assert scripts.call(evaluate, *test, *again) == 0
    scores = [
        [(e["method"], e["metrics"]) for e in read_summary(root / folder / "results" / "refined")["evaluations"]]
        for folder in (head, f"{head}-again")
    ]
    assert scores[0] == scores[1]
    assert [name for name, _ in scores[0]] == ["plain", "aligned"]
    refiner = publish.load(root / head)
    assert (refiner.grid, refiner.finer) == (32, 2)
    assert any(name.startswith("within.") for name in refiner.trained())
    matcher = geoalign.load(root / head)
    assert matcher.grid == 16
    assert all(torch.equal(a, b) for a, b in zip(matcher.refiner.parameters(), refiner.parameters(), strict=True))


def test_an_up_sampler_is_shown_pictures_beside_cached_maps(root):
    words = [f"paths.root={root}", *SMALL, *EXTERNAL, "refiner=identity", f"hydra.run.dir={root}/external"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hydra._internal.utils.is_under_debugger", lambda: False)
        test = [word for word in words if not word.startswith(("trainer", "data.sampler", "baseline", "refiner."))]
        assert scripts.call(evaluate, *test) == 0
    assert read_summary(root / "external" / "results" / "zero-shot")["evaluations"][0]["method"] == "plain"


def test_training_shows_it_pictures_too(root):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hydra._internal.utils.is_under_debugger", lambda: False)
        words = [f"paths.root={root}", *SMALL, *EXTERNAL, f"hydra.run.dir={root}/external-trained"]
        assert scripts.call(train, *words) == 0
    assert (root / "external-trained" / "checkpoints" / "best.ckpt").is_file()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["head=upsample", "head.finer=3"], "2, 4, 8, … along a side, got head.finer=3; set head.finer=4"),
        (["head=upsampel"], "no such choice; did you mean head=upsample"),
        (["head=upsample", "head.fine=2"], "head.fine"),
    ],
)
def test_a_head_that_cannot_be_is_one_line(root, capfd, words, told):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hydra._internal.utils.is_under_debugger", lambda: False)
        assert scripts.call(train, f"paths.root={root}", *SMALL, *words, f"hydra.run.dir={root}/wrong") != 0
    assert told in capfd.readouterr().err.replace("\n", " ")
