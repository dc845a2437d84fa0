"""The page of options is what the yamls say, and says something about each."""

import re

import pytest
import yaml

from geoalign.options.__main__ import PAGE, main
from geoalign.options.page import about, command_help, comments, page
from geoalign.options.values import check
from geoalign.options.yamls import CONF, default_groups, group_choices, read, resolved

YAMLS = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml"))


def test_the_page_is_up_to_date(capsys):
    assert main(["--check"]) == 0, capsys.readouterr().err


def test_another_page_is_refused_with_the_remedy(tmp_path, capsys):
    out = tmp_path / "page.md"
    assert main(["--check", "--out", str(out)]) == 1
    assert "python -m geoalign.options" in capsys.readouterr().err
    assert main(["--out", str(out)]) == 0
    assert out.read_text() == PAGE.read_text()


def test_every_choice_and_every_option_is_on_the_page():
    text = page()
    for name in YAMLS:
        group, _, stem = name.rpartition("/")
        if group and not group.startswith("recipe"):
            stem = name.partition("/")[2] if group.startswith("experiment") else stem
            assert f"| `{stem}` |" in text, name
        for key in read(name).options if not group.startswith(("experiment", "recipe")) else ():
            last = key.rpartition(".")[2]
            if not last.startswith("_") and read(name).options[key].value:
                assert re.search(rf"\b{re.escape(last)}` \|", text), (name, key)


def test_every_option_has_a_meaning():
    silent = [line for line in page().splitlines() if re.match(r"\| `.*\|\s+\|$", line)]
    assert not silent, "comment these in their yamls:\n" + "\n".join(silent)


def test_every_choice_says_what_it_is():
    groups = {name.rpartition("/")[0] for name in YAMLS} - {""}
    assert [c.name for g in groups for c in group_choices(g) if not c.header] == []


@pytest.mark.parametrize("name", [name for name in YAMLS if not name.startswith(("experiment", "recipe"))])
def test_defaults_are_read_as_yaml_reads_them(name):
    document = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8")) or {}
    document.pop("defaults", None)
    for key, value in _flat(document):
        if key in read(name).options and read(name).options[key].value:
            assert yaml.safe_load(read(name).options[key].value) == value, key


def test_a_yaml_takes_comments_from_those_below_it():
    assert read("refiner/small").options["hidden"].comment == read("refiner/aggregation").options["hidden"].comment
    assert "backbones.sd15.crop_px" in resolved("backbone/sd15_dinov2")
    assert default_groups("train")["refiner"] == "small"


def test_help_tells_values_in_use_and_what_they_mean(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = command_help("train", "Train.\nMore.", {"refiner": "small"}, {"refiner.width": 64, "seed": 3})
    assert "refiner.width=64" in text
    assert "channels of the refined descriptor" in text
    assert "[small]" in text
    assert text.count("  python train.py") >= 3
    assert max(map(len, text.splitlines())) <= 100
    assert comments("train", {"refiner": "small"})["seed"] == "of everything random"


def test_what_cannot_be_imported_says_nothing():
    assert about("nowhere.Nothing") == ""
    assert about("geoalign.matching.Matcher").startswith("Settings of matching")


def _flat(value, path=""):
    if not isinstance(value, dict) or not value:
        yield path, value
        return
    for key, one in value.items():
        yield from _flat(one, f"{path}.{key}" if path else str(key))


@pytest.mark.parametrize("name", [name for name in YAMLS if not name.startswith(("experiment", "recipe", "hydra"))])
def test_no_yaml_is_refused_by_the_check_of_values(name):
    document = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8")) or {}
    document.pop("defaults", None)
    check({"group": _without_references(document)}, {}, open_ended=["group"])


def _without_references(value):
    """Null where another option is followed."""
    if isinstance(value, dict):
        return {key: _without_references(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_references(one) for one in value]
    return None if isinstance(value, str) and "${" in value else value
