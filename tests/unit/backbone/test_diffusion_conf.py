"""The configuration files build a backbone."""

from __future__ import annotations

from pathlib import Path

from helpers.tiny_diffusion import FREEU, save_sd
from hydra.utils import instantiate
from omegaconf import OmegaConf

CONF = Path(__file__).parents[3] / "conf" / "backbone"


def test_a_file_builds_a_backbone_with_plain_containers(tmp_path: Path) -> None:
    options = OmegaConf.load(CONF / "sd15.yaml")
    overrides = {"source": str(save_sd(tmp_path)), "image_size": 192, "crop_px": 128}
    backbone = instantiate(options, **overrides, _convert_="all", freeu=None)
    assert backbone.channels == (32, 64, 64)
    assert type(backbone.identity()["timesteps"]) is list
    assert instantiate(options, **overrides, _convert_="all", freeu=FREEU).unet.freeu == {
        64: (1.2, 0.9),
        32: (1.4, 0.2),
    }
