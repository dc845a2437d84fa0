"""The page of options is what signatures and yamls say, and says something about each."""

import re
from functools import cache

import pytest
import yaml
from helpers.fuzz import every

from geoalign.options.__main__ import PAGE, main
from geoalign.options.entry import composed, plain
from geoalign.options.page import SCRIPTS, command_help, meanings, page
from geoalign.options.schema import filled, parameters
from geoalign.options.values import check
from geoalign.options.yamls import CONF, choices, default_groups, groups, read

YAMLS = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml"))


@cache
def document(name):
    found = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8")) or {}
    return {key: value for key, value in found.items() if key != "defaults"}


def nodes(value):
    """Every map below a document, itself first."""
    if isinstance(value, dict):
        yield value
        for one in value.values():
            yield from nodes(one)


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
    for group in groups():
        for name in choices(group) if not group.startswith("recipe") else ():
            assert f"| `{name}` |" in text or group.startswith("experiment/"), (group, name)
            for key in read(f"{group}/{name}").comments if not group.startswith("experiment") else ():
                assert re.search(rf"[`.]{re.escape(key)}(` \||=)", text), (group, name, key)


def test_every_option_on_the_page_has_a_meaning():
    silent = [line for line in page().splitlines() if re.match(r"\| `.*\|\s+\|\s*$", line) and line.count("|") == 4]
    assert not [line for line in silent if "." in line.split("|")[1]], "comment these in their yamls"


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_option_of_a_script_has_a_meaning(script):
    cfg = composed(script, [])
    picked = plain(cfg.hydra.runtime.choices)
    del cfg._content["hydra"]
    values = dict(_flat(plain(cfg, resolve=False)))
    said = meanings(script, picked, values)
    shown = [key for key in values if not key.rpartition(".")[2].startswith("_") and values[key] not in ({}, None)]
    assert [key for key in shown if not (said.get(key) or said.get(key.rpartition(".")[0]))] == []


def test_every_choice_says_what_it_is():
    assert [(g, name) for g in groups() for name in choices(g) if not read(f"{g}/{name}").header] == []


def test_options_are_read_as_yaml_reads_them():
    def check(name):
        values = read(name).values
        for key, value in _flat(document(name)) if document(name) else ():
            while key and key not in values:  # a map in braces is read whole where it has a comment
                key, value = key.rpartition(".")[0], ...
            assert key in values
            assert value is ... or yaml.safe_load(values[key]) == value, key

    every(YAMLS, check)


def test_a_yaml_says_only_what_differs_from_the_signature():
    def check(name):
        for node in nodes(document(name)):
            taken = parameters(str(node.get("_target_")))
            same = [key for key, value in node.items() if key in taken and taken[key].default == value]
            assert same == [], "these are the constructor's defaults, take them out"

    every(YAMLS, check)


def test_nothing_heavy_is_imported_for_help_or_for_what_would_run():
    """Both answer in a fraction of a second; lightning alone takes several."""
    import subprocess
    import sys

    for word in (["--help"], ["--cfg", "job"]):
        code = f"import sys; from geoalign.cli import train; train.main({word}); sys.exit('torch' in sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=CONF.parent, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "temperature" in done.stdout


def test_help_tells_values_in_use_and_what_they_mean(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    values = {"refiner._target_": "geoalign.refiner.Aggregation", "refiner.width": 64, "seed": 3}
    text = command_help("train", "Train.\nMore.", {"refiner": "small"}, values)
    assert "refiner.width=64" in text
    assert "channels of the refined descriptor" in text
    assert "[small]" in text
    assert text.count("  geoalign train") >= 3
    assert max(map(len, text.splitlines())) <= 100
    assert default_groups("train")["refiner"] == "small"


def _flat(value, path=""):
    if not isinstance(value, dict) or not value:
        yield path, value
        return
    for key, one in value.items():
        yield from _flat(one, f"{path}.{key}" if path else str(key))


def test_no_yaml_is_refused_by_the_check_of_values():
    every(
        [name for name in YAMLS if not name.startswith(("experiment", "recipe", "hydra"))],
        lambda name: check({"group": _without_references(filled(document(name)))}, {}, open_ended=["group"]),
    )


def _without_references(value):
    """Null where another option is followed."""
    if isinstance(value, dict):
        return {key: _without_references(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_references(one) for one in value]
    return None if isinstance(value, str) and "${" in value else value
