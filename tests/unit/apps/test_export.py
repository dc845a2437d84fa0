"""A model as ONNX: what onnxruntime answers is what geoalign answers, for any number of points."""

import json

import numpy as np
import pytest
import torch
from helpers.tiny import TinyBackbone
from PIL import Image

from geoalign.apps import export as exports
from geoalign.apps.matcher import ImageMatcher
from geoalign.cli import export as command
from geoalign.matching import Matcher
from geoalign.refiner import Aggregation, Blend, Identity
from geoalign.refiner.base import Refiner

SIZES = (6, 10)


def pictures(seed=0):
    """Two pictures with something in every cell, neither of them square."""
    rng = np.random.default_rng(seed)
    return [
        Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
        for size in ((160, 120), (110, 150))
    ]


def refiner(kind):
    torch.manual_seed(1)
    if kind == "identity":
        return Identity(SIZES, grid=8)
    aggregation = Aggregation(SIZES, grid=8, width=32, hidden=32)
    return Blend(aggregation) if kind == "blend" else aggregation


def tiny(kind="identity", **matcher):
    return ImageMatcher(TinyBackbone(), refiner(kind), Matcher(**({"radius": 2} | matcher)))


def session(path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime; pip install 'geoalign[export]'")
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.fixture(autouse=True)
def _packages():
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="needs the export extra; pip install 'geoalign[export]'")


@pytest.mark.untraced
@pytest.mark.unchecked
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "matcher"),
    [
        ("blend", {"readout": "kernel"}), ("identity", {"readout": "argmax", "source": "floor"}),
        ("aggregation", {"outside": "zero"}),
    ],
)  # fmt: skip
def test_onnxruntime_answers_the_same(tmp_path, kind, matcher):
    model, path = tiny(kind, **matcher), tmp_path / "tiny.onnx"
    found = exports.export(model, path, pictures(), batch=2)
    assert found.xy_px / 840 <= exports.TOLERANCE
    assert found.score <= exports.TOLERANCE
    assert min(found.onnx_s, found.eager_s) > 0
    run = session(path)
    for n in (1, 2, 37):
        given = exports.inputs(model, *pictures(seed=5), batch=2, n=n)
        xy_px, score = run.run(None, exports.named(run, given))
        wanted = exports.expected(model, given)
        assert xy_px.shape == (2, n, 2)
        np.testing.assert_allclose(xy_px / 840, wanted[0] / 840, atol=1e-4)
        np.testing.assert_allclose(score, wanted[1], atol=1e-4)


@pytest.mark.unchecked
@pytest.mark.slow
def test_it_says_what_it_takes_and_answers_as_match_does(tmp_path):
    from geoalign.geometry import letterbox_points, unletterbox_points

    model, path = tiny(), tmp_path / "tiny.onnx"
    source, target = pictures()
    exports.export(model, path, [source, target])
    run = session(path)
    assert [one.name for one in run.get_inputs()] == ["source", "target", "points", "inside"]
    facts = json.loads(run.get_modelmeta().custom_metadata_map["geoalign"])
    assert (facts["frame_px"], facts["grid"], facts["image_sizes"], facts["batch"]) == (840, 8, [64], 1)
    feed = exports.named(run, exports.inputs(model, source, target, batch=1, n=3))
    asked = [(30.0, 40.0), (100.0, 60.0), (80.0, 100.0)]
    feed["points"] = letterbox_points(np.array([asked], np.float32), (120, 160)).astype(np.float32)
    xy_px, score = run.run(None, feed)
    answer = model.match(source, target, points=asked)
    np.testing.assert_allclose(
        np.clip(unletterbox_points(xy_px[0], (150, 110)), 0, (110, 150)), answer.xy_px, atol=0.02
    )
    np.testing.assert_allclose(score[0], answer.score, atol=1e-4)


@pytest.mark.untraced
@pytest.mark.unchecked
@pytest.mark.slow
def test_a_dino_can_be_exported(tmp_path):
    from transformers import Dinov2Config, Dinov2Model

    from geoalign.backbone import Dino

    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
    Dinov2Model(Dinov2Config(**sizes, patch_size=14, image_size=70)).save_pretrained(tmp_path / "dino")
    backbone = Dino(str(tmp_path / "dino"), image_size=112, grid=8)
    model = ImageMatcher(backbone, Identity(backbone.channels, 8), Matcher(readout="soft"))
    found = exports.export(model, tmp_path / "dino.onnx", pictures())
    assert max(found.xy_px / 840, found.score) <= 1e-4


@pytest.mark.unchecked
@pytest.mark.long
def test_lite_on_photographs_by_the_command(tmp_path, shared, capsys):
    photographs = sorted((shared / "data/livestock/JPEGImages").rglob("*.jpg"))[:40:20]
    assert command.main([str(tmp_path / "lite.onnx"), *map(str, photographs)]) == 0
    said = capsys.readouterr().out
    assert "differs from geoalign by at most" in said
    assert "ms a pair with onnxruntime" in said
    assert (tmp_path / "lite.onnx").stat().st_size > 2**20


def test_an_answer_that_differs_is_refused_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "check", lambda *_: exports.Checked(5.0, 0.1, 1.0, 1.0))
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: Program())
    with pytest.raises(ValueError, match="differ from ours by 5 px and 0"):
        exports.export(tiny(), tmp_path / "x.onnx", pictures())
    assert not list(tmp_path.iterdir())


class Program:
    """Stands for what the exporter gives."""

    @property
    def model_proto(self):
        import onnx

        return onnx.helper.make_model(onnx.helper.make_graph([], "none", [], []))


class Other(Refiner):
    """A refiner that nothing is known of."""

    channels, grid, width = SIZES, 8, 6

    def config(self):
        return {}

    def forward(self, maps):
        return maps[0]


def test_other_refiners_are_refused_by_name(tmp_path):
    model = ImageMatcher(TinyBackbone(), Other(), Matcher())
    with pytest.raises(ValueError, match=r"identity, aggregation, or blend over one of them, got Other"):
        exports.export(model, tmp_path / "x.onnx", pictures())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x.onnx", "one.jpg"], "give two pictures to check the file on, or none, got 1"),
        (["x.pt"], "expected a name that ends in .onnx"),
        (["there.onnx"], "there.onnx"),
        (["x.onnx", "--model", "nothing"], "nothing"),
        (["x.onnx", "--batch", "0"], "--batch counts pairs and is at least 1, got 0"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("geoalign.apps.loading.load", lambda name, **_: tiny() if name == "lite" else bad(name))
    (tmp_path / "there.onnx").touch()
    assert command.main(words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not (tmp_path / "x.onnx").exists()


def bad(name):
    raise ValueError(f"no model {name}")


def test_a_missing_package_is_named_with_the_remedy(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    assert command.main([str(tmp_path / "x.onnx")]) == 1
    assert "pip install 'geoalign[export]'" in capsys.readouterr().err
