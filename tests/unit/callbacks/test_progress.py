"""Where nobody watches a bar, a log says how far a run is."""

import re

import pytest
from helpers import killed
from helpers.spair_tree import write_tree
from lightning import Trainer
from lightning.pytorch.callbacks import RichProgressBar

from geoalign.callbacks.progress import ProgressLines, progress


def test_a_terminal_gets_a_bar_and_a_log_gets_lines(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert isinstance(progress(), RichProgressBar)
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    assert isinstance(progress(seconds=5), ProgressLines)
    with pytest.raises(ValueError, match=r"callbacks.progress.seconds .* above 0, got 0"):
        progress(seconds=0)


def fitted(tmp_path, capsys, seconds):
    write_tree(tmp_path / "data")
    module, data = killed.parts(tmp_path / "data", 0)
    lines = ProgressLines(seconds)
    options = {"enable_model_summary": False, "enable_checkpointing": False, "use_distributed_sampler": False}
    trainer = Trainer(
        accelerator="cpu", max_epochs=2, callbacks=[lines], logger=False, num_sanity_val_steps=0, **options
    )
    trainer.fit(module, data)
    return [line for line in capsys.readouterr().out.splitlines() if "it/s" in line]


def test_lines_say_step_loss_rate_and_what_is_left(tmp_path, capsys):
    lines = fitted(tmp_path, capsys, 1e-9)
    steps = [line for line in lines if line.startswith("step")]
    assert len(steps) == 2 * killed.BATCHES
    for number, line in enumerate(steps, 1):
        assert re.fullmatch(rf"step {number} of 10, loss [\d.e+-]+, [\d.e+]+ it/s, \d+:\d\d:\d\d left", line), line
    assert steps[-1].endswith("0:00:00 left")
    assert any(re.match(r"validation \d+ of \d+, ", line) for line in lines)


def test_lines_come_from_time_to_time_only(tmp_path, capsys):
    assert fitted(tmp_path, capsys, 3600.0) == []
