"""Every source's yaml is its constructor's schema: a target that exists, no unknown and no missing keys."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_class

SOURCES = sorted((Path(__file__).parents[3] / "conf" / "data" / "source").glob("*.yaml"))
NAMES = {"ap10k_intra", "ap10k_cross_species", "ap10k_cross_family", "pf_pascal", "pf_willow", "tss", "folder"}


def test_all_are_there():
    assert {path.stem for path in SOURCES} >= NAMES


@pytest.mark.parametrize("path", [path for path in SOURCES if path.stem in NAMES], ids=lambda path: path.stem)
def test_keys_are_the_constructors_and_its_defaults_are_not_repeated(path):
    config = yaml.safe_load(path.read_text())
    parameters = inspect.signature(get_class(config.pop("_target_"))).parameters
    assert set(config) <= set(parameters)
    assert config.pop("root").startswith("${paths.data}/")
    for key, value in config.items():
        default = parameters[key].default
        assert value != (list(default) if isinstance(default, tuple) else default)
