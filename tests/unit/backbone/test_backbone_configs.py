"""conf/backbone: every file builds what it names, and the package stays light."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

import geoalign.backbone
from geoalign.options.entry import composed as compose

CONF = Path(__file__).resolve().parents[3] / "conf"
NAMES = sorted(path.stem for path in (CONF / "backbone").glob("*.yaml"))


def composed(name: str) -> DictConfig:
    return compose("evaluate", [f"backbone={name}"]).backbone


def check(config: DictConfig) -> None:
    keys = {str(key): config._get_node(key) for key in config}
    target = get_class(config["_target_"])
    assert issubclass(target, geoalign.backbone.Backbone)
    inspect.signature(target).bind(**{key: node for key, node in keys.items() if key != "_target_"})


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_the_constructors(name: str) -> None:
    config = composed(name)
    check(config)
    for part in config.get("backbones", {}).values():
        check(part)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("dino")])
def test_images_are_sixty_patches(name: str) -> None:
    config = composed(name)
    assert config.image_size == 60 * (16 if name.startswith("dinov3") else 14)


def test_the_papers_fusion_keeps_the_papers_order() -> None:
    parts = OmegaConf.to_container(composed("sd15_dinov2").backbones)
    assert list(parts) == ["sd15", "dinov2"]
    assert (parts["sd15"]["image_size"], parts["dinov2"]["image_size"]) == (960, 840)


def test_public_names_are_lazy() -> None:
    code = "import sys, geoalign.backbone; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    for name in geoalign.backbone.__all__:
        assert getattr(geoalign.backbone, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute Vgg"):
        _ = geoalign.backbone.Vgg
