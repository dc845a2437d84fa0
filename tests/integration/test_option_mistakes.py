"""Mistakes on the command line: one line, the nearest name, exit code 1, nothing left behind."""

import os

import pytest
from helpers.scripts import call
from hydra.errors import ConfigCompositionException, MissingConfigException

from geoalign.cli import evaluate, extract, train
from geoalign.options.entry import composed, explain


@pytest.mark.parametrize(
    ("script", "word", "said"),
    [
        (train, "optimiser.lr=1", "did you mean optimizer.lr?"),
        (train, "loss.temprature=2", "did you mean loss.dense.matcher.temperature?"),
        (train, "refiner=agregation", "did you mean refiner=aggregation?"),
        (train, "experiment=supervised/spair", "did you mean experiment=supervised/spair71k?"),
        (train, "+sweep=windwo", "did you mean sweep=window?"),
        (train, "optimiser=small", "did you mean optimizer?"),
        (train, "data.images={trn: 4", "cannot read 'data.images={trn: 4'"),
        (train, "~optimiser", "did you mean optimizer?"),
        (train, "trainer.max_epochs=1,2", "--multirun"),
        (evaluate, "chekpoint=3", "did you mean checkpoint?"),
        (extract, "backbone=lit", "did you mean backbone=lite?"),
        (extract, "stagse=[val]", "did you mean stages?"),
        (train, "optimizer.lr=abc", "optimizer.lr=abc: expected a number, got text"),
        (train, "trainer.max_epochs=many", "trainer.max_epochs=many: expected a whole number or null, got text"),
        (train, "+optimizer.weight_deca=1", "did you mean optimizer.weight_decay?"),
        (train, "+swep=window", "did you mean sweep?"),
        (evaluate, "matcher.temperature=hot", "expected a number"),
        (extract, "batch=many", "batch=many: expected a whole number"),
        (train, "matcher.tempratur=0.1", "did you mean matcher.temperature?"),
        (train, "matcher=-1", "Config group override must be a string or a list"),
        (train, "matcher=[1,[2]]", "can only concatenate"),
        (train, "+matcher.tempratur=0.1", "did you mean matcher.temperature?"),
    ],
)
def test_a_mistake_is_one_line_with_the_nearest_name(tmp_path, capfd, script, word, said):
    before = dict(os.environ)
    assert call(script, f"paths.root={tmp_path}", word) == 1
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert dict(os.environ) == before


def test_a_launcher_that_is_not_installed_names_its_extra():
    error = MissingConfigException("In '+launcher/joblib': Could not find 'hydra/launcher/joblib'\n\nAvailable options")
    assert explain(error, "train", []).endswith("pip install 'geoalign[sweep]'")


def test_an_experiment_of_another_command_is_told():
    words = ["experiment=marco/spair71k"]
    with pytest.raises(ConfigCompositionException) as caught:
        composed("evaluate", words)
    said = explain(caught.value, "evaluate", words)
    assert said.endswith("geoalign evaluate has no loss; what sets it is for another command (geoalign train)")


@pytest.mark.parametrize("script", [train, evaluate, extract])
def test_help_names_groups_options_and_examples(script, capfd):
    assert call(script, "backbone.grid=12", "--help") == 0
    said = capfd.readouterr().out
    assert said.splitlines()[2].endswith(".")
    assert "# PCK thresholds" in said or script is extract
    assert "backbone.grid=12" in said
    assert "geoalign" in said.split("examples:")[1]


def test_who_asks_for_hydras_own_trace_gets_it(monkeypatch, tmp_path):
    from hydra.errors import ConfigCompositionException

    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ConfigCompositionException):
        call(train, "optimiser.lr=1")
