"""What Lightning refuses of a trainer's settings is an error of ours, which scripts print in one line."""

from pathlib import Path

import pytest
import torch

from geoalign.build import make_trainer
from geoalign.options.entry import composed


@pytest.fixture(autouse=True)
def _in_a_folder(monkeypatch, tmp_path):
    monkeypatch.setattr("geoalign.build.output_dir", lambda: Path(tmp_path))


@pytest.mark.parametrize("setting", ["max_epochs=-3", "accelerator=gpu"])
def test_what_cannot_run_is_named(setting):
    if setting == "accelerator=gpu" and torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(ValueError, match=rf"trainer\.{setting}.*trainer=default"):
        make_trainer(composed("train", [f"trainer.{setting}"]), [], False)


def test_the_default_is_made():
    assert make_trainer(composed("train", []), [], False).max_epochs == 4
