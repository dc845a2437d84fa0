"""What ``geoalign.load`` takes."""

import inspect
from pathlib import Path

import pytest
import torch
import yaml
from helpers.tiny import TinyBackbone

import geoalign
from geoalign.apps.loading import BACKBONES, load
from geoalign.backbone.diffusion.backbone import StableDiffusion
from geoalign.backbone.dino import Dino
from geoalign.backbone.lite import Lite
from geoalign.refiner import Aggregation, Identity

CONF = Path(geoalign.__file__).parents[1] / "conf"
LITE = (40, 112, 192)


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    refiner = Aggregation(LITE, grid=60, width=32, hidden=32)
    torch.save(refiner.state_dict(), tmp_path / "released.pth")
    return tmp_path / "released.pth", refiner


def test_a_name_is_zero_shot():
    matcher = geoalign.load("lite")
    assert isinstance(matcher.refiner, Identity)
    assert matcher.backbone.channels == BACKBONES["lite"].channels


def test_a_file_finds_its_backbone_by_its_channels(weights):
    path, refiner = weights
    matcher = load(path)
    assert isinstance(matcher.backbone, Lite)
    assert torch.equal(matcher.refiner.mixing_weights, refiner.mixing_weights)


def test_a_published_folder(weights, tmp_path):
    weights[1].save_pretrained(tmp_path / "shared")
    assert load(tmp_path / "shared").refiner.width == 32


def test_a_runs_folder_brings_its_own_settings(tmp_path):
    refiner = Aggregation(LITE, grid=30, width=32, hidden=32)
    run = tmp_path / "run"
    (run / "config").mkdir(parents=True)
    (run / "checkpoints").mkdir()
    backbone = {"_target_": "geoalign.backbone.lite.Lite", "blocks": [4, 10, 14], "image_size": 128, "grid": 30}
    sizes = {"channels": None, "grid": None, "width": 32, "hidden": 32}
    config = {
        "backbone": backbone,
        "refiner": {"_target_": "geoalign.refiner.Aggregation", **sizes},
        "matcher": {"_target_": "geoalign.matching.Matcher", "readout": "argmax"},
    }
    (run / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ValueError, match="did not finish"):
        load(run)
    state = {f"refiner.{k}": v for k, v in refiner.state_dict().items()}
    torch.save({"state_dict": state}, run / "checkpoints" / "best.ckpt")
    for source in (run, run / "checkpoints" / "best.ckpt"):
        matcher = load(source)
        assert (matcher.grid, matcher.matcher.readout) == (30, "argmax")
        assert torch.equal(matcher.refiner.mixing_weights, refiner.mixing_weights)


def test_what_cannot_be_loaded(weights):
    path, _ = weights
    for source, backbone, told in (
        ("nothing.pth", None, "expected lite"),
        ("lite", "lite", "is a backbone itself"),
        (path, "unheard", "no backbone is known"),
        (path, TinyBackbone(), "the backbone gives"),
    ):
        with pytest.raises(ValueError, match=told):
            load(source, backbone)
    with pytest.raises(AttributeError):
        _ = geoalign.unheard


@pytest.mark.parametrize(
    ("name", "part", "given"),
    [("lite", Lite, {"blocks": [4, 10, 14]}), ("dinov2_b", Dino, {}), ("sd15", StableDiffusion, {})],
)
def test_names_mean_what_conf_says(name, part, given):
    """The constructors' defaults are the configs' values; ``mirrors`` are only named in errors."""
    config = yaml.safe_load((CONF / "backbone" / f"{name}.yaml").read_text())
    del config["_target_"]
    config.pop("mirrors", None)
    defaults = {k: p.default for k, p in inspect.signature(part.__init__).parameters.items()} | given
    for key, value in config.items():
        own = list(defaults[key]) if isinstance(defaults[key], tuple) else defaults[key]
        own = {k: list(v) for k, v in own.items()} if isinstance(own, dict) or hasattr(own, "items") else own
        assert own == value, key
