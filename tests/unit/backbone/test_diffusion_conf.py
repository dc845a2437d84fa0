"""The configuration files spell out every option of the constructor, and build a backbone."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from helpers.tiny_diffusion import FREEU, save_sd
from hydra.utils import instantiate
from omegaconf import OmegaConf

from geoalign.backbone.diffusion import StableDiffusion

CONF = Path(__file__).parents[3] / "conf" / "backbone"
NAMES = ["sd15", "sd15_plain", "sd21_dift", "cleandift"]


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_spelt_out(name: str) -> None:
    options = OmegaConf.load(CONF / f"{name}.yaml")
    assert set(options) - {"_target_"} == set(inspect.signature(StableDiffusion).parameters)


def test_sd15_is_the_default_recipe() -> None:
    options = OmegaConf.to_container(OmegaConf.load(CONF / "sd15.yaml"))
    assert isinstance(options, dict)
    for name, parameter in inspect.signature(StableDiffusion).parameters.items():
        if name == "freeu":
            assert {count: tuple(scales) for count, scales in options[name].items()} == dict(parameter.default)
        elif name != "mirrors":
            default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
            assert options[name] == default, name


def test_a_file_builds_a_backbone_with_plain_containers(tmp_path: Path) -> None:
    options = OmegaConf.load(CONF / "sd15.yaml")
    overrides = {"source": str(save_sd(tmp_path)), "image_size": 192, "crop_px": 128}
    backbone = instantiate(options, **overrides, _convert_="all", freeu=None)
    assert backbone.channels == (32, 64, 64)
    assert type(backbone.identity()["timesteps"]) is list
    del options["freeu"]
    assert instantiate(options, **overrides, _convert_="all", freeu=FREEU).unet.freeu == {
        64: (1.2, 0.9),
        32: (1.4, 0.2),
    }
