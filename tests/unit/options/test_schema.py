"""Signatures and docstrings are the schema: what is read from source is what a constructor takes."""

import inspect
import pkgutil
import re

import pytest
import yaml

from geoalign.options.entry import composed
from geoalign.options.schema import about, filled, meanings, parameters
from geoalign.options.yamls import CONF

TARGETS = sorted({
    target
    for path in CONF.rglob("*.yaml")
    for target in re.findall(r"_target_: (geoalign\.[\w.]+)", path.read_text(encoding="utf-8"))
})  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_defaults_read_from_source_are_those_of_the_signature(target):
    real = inspect.signature(pkgutil.resolve_name(target)).parameters
    for name, one in parameters(target).items():
        assert name in real, f"{target}: its docstring explains {name}, which it does not take"
        assert one.meaning
        default = real[name].default
        if one.default is ...:  # Synthetic's categories are computed; its yaml writes them
            made = repr(default) == "<factory>"  # of a dataclass
            assert (
                made
                or default is inspect.Parameter.empty
                or (target, name) == ("geoalign.data.Synthetic", "categories")
            )
        else:
            assert yaml.safe_load(yaml.safe_dump(one.default)) == _plain(default), name


def _plain(value):
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return {key: _plain(one) for key, one in value.items()} if hasattr(value, "items") else value


def test_an_option_that_no_yaml_writes_is_set_without_a_plus_and_followed_by_others():
    assert "temperature" not in (CONF / "matcher" / "window.yaml").read_text()
    cfg = composed("train", ["matcher.temperature=0.5", "loss.dense.matcher.sigma=${matcher.temperature}"])
    assert (cfg.matcher.temperature, cfg.loss.dense.matcher.sigma, cfg.matcher.radius) == (0.5, 0.5, 7)


def test_what_a_yaml_writes_stays_and_what_is_not_ours_is_left_alone():
    node = {"_target_": "geoalign.matching.Matcher", "radius": 5}
    assert filled([node])[0] | node == filled(node)
    assert filled({"_target_": "torch.optim.AdamW"}) == {"_target_": "torch.optim.AdamW"}
    assert parameters("geoalign.nowhere.Nothing") == {}


def test_experiments_set_options_anywhere_and_are_called_by_their_path():
    cfg = composed("train", ["experiment=ablation/no_dropout"])
    assert (cfg.name, cfg.refiner.dropout) == ("ablation-no-dropout", 0.0)
    assert composed("train", ["experiment=ablation/no_dropout", "name=mine"]).name == "mine"


def test_docstrings_are_read_as_people_write_them():
    assert meanings("Does.\n\nArgs:\n    a: first:\n        more\n\n    b: second\n\nReturns:\n    c: no") == {
        "a": "first: more",
        "b": "second",
    }
    assert meanings("Does.") == {}
    assert about("nowhere.Nothing") == ""
    assert about("geoalign.matching.Matcher").startswith("Settings of matching")
