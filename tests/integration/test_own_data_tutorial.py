"""docs/own-data.md, run as it is written, shrunk."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from geoalign.cli import train
from geoalign.cli.__main__ import main
from geoalign.results.predictions import read_predictions

TUTORIAL = Path(__file__).parents[2] / "docs" / "own-data.md"
SMALLER = ["backbone.image_size=128", "backbone.grid=16", "refiner.width=32", "refiner.hidden=32"]
SMALLER += ["data.sampler.batches=2", "trainer.max_epochs=1", "callbacks.progress=null"]


def blocks():
    return re.findall(r"^```(python|bash)\n(.*?)^```$", TUTORIAL.read_text(encoding="utf-8"), re.M | re.S)


def shell(line, monkeypatch):
    """One command of the tutorial in this process; training with fewer, smaller steps."""
    _, *words = shlex.split(line)
    if words[0] != "train":
        return main(words)
    root = [f"paths.root={Path.cwd()}", f"data.root={Path.cwd() / 'photos'}"]
    kept = [word for word in words[1:] if not word.startswith("data.root=")]
    monkeypatch.setattr(sys, "argv", [*words[:1], *kept, *root, *SMALLER])
    GlobalHydra.instance().clear()
    return train.main() or 0


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    known = {}
    for kind, text in blocks():
        if kind == "python":
            exec(text, known)
        else:
            for line in text.splitlines():
                assert shell(line, monkeypatch) == 0, line
    assert Path("own-match.png").is_file()
    tested = read_predictions(Path("runs/own-data/results/refined/predictions-folder-plain.parquet")).table
    assert tested["pair_id"].nunique() == 2
