"""A run that was killed at any moment ends with exactly the weights of the undisturbed one."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.killed import STEPS, all_moments
from helpers.spair_tree import write_tree

from geoalign.callbacks.interruption import last_good
from geoalign.report.figures import read_log

TESTS = Path(__file__).parents[1]
TEN = sorted(random.Random(2).sample(all_moments(), 10), key=all_moments().index)
"""Ten moments of a run, drawn with a seed; in order of time, so that each attempt comes by its own."""
NAMED = [("gradients", 3), ("write", 6), ("validation", 10), ("SIGTERM", 11)]
JOBS = {
    "calm": ([], {}),
    "named": (NAMED, {}),
    "calm, averaged": ([], {"average": True}),
    "ten, averaged": (TEN, {"average": True}),
    "calm, accumulated": ([], {"accumulate_grad_batches": 2}),
    "killed, accumulated": ([("gradients", 3), ("start", 5)], {"accumulate_grad_batches": 2}),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every job by name: how its attempts ended, its folder, its final state."""
    base = tmp_path_factory.mktemp("runs")
    write_tree(base / "data")
    given = [
        {"data": str(base / "data"), "out": str(base / name), "moments": moments, "options": options}
        for name, (moments, options) in JOBS.items()
    ]
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "helpers.killed", json.dumps(given)]
    done = subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    ends = dict(zip(JOBS, json.loads(done.stdout.splitlines()[-1]), strict=True))
    assert all(codes[-1] == 0 for codes in ends.values()), (ends, done.stderr[-3000:])
    return {name: (ends[name], base / name, torch.load(base / name / "final.pt", weights_only=True)) for name in JOBS}


def _deaths(folder):
    return [json.loads(line) for line in (folder / "deaths.jsonl").read_text().splitlines()]


def _same(a, b):
    for name in ("weights", "current", "average", "optimizer"):
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)
    assert torch.equal(a["random"]["torch"], b["random"]["torch"])
    for name in ("scheduler", "best", "steps"):
        assert a[name] == b[name], name
    assert all(a["random"][name] == b["random"][name] for name in ("numpy", "python"))


@pytest.mark.long
def test_ten_kills_at_random_moments_change_nothing(runs):
    ends, folder, state = runs["ten, averaged"]
    assert ends == [-signal.SIGKILL] * 10 + [0], "every attempt but the last was killed"
    deaths = _deaths(folder)
    assert [(d["hook"], d["step"]) for d in deaths] == TEN, "each where it was drawn"
    assert all(d["fitting"] and not d["finished"] for d in deaths), "in the middle of the training"
    assert len({step for _, step in TEN}) > 5, "all over the run"
    _same(state, runs["calm, averaged"][2])
    assert state["steps"] == STEPS


@pytest.mark.long
def test_the_log_of_a_killed_run_has_no_gap(runs):
    killed, calm = (read_log(runs[name][1] / "csv") for name in ("ten, averaged", "calm, averaged"))
    assert list((runs["ten, averaged"][1] / "csv").glob("metrics-before-*.csv")), "it was in parts"
    for key in ("train/loss/total", "val/mini/pck@0.10/image"):
        curves = [table[["step", key]].dropna().to_numpy().tolist() for table in (killed, calm)]
        assert curves[0] == curves[1], key
    assert len(killed["train/loss/total"].dropna()) == STEPS


@pytest.mark.long
def test_three_kills_and_a_signal_change_nothing(runs):
    ends, folder, state = runs["named"]
    assert ends == [-9, -9, -9, 128 + 15, 0]
    assert [(d["hook"], d["step"]) for d in _deaths(folder)] == NAMED
    _same(state, runs["calm"][2])
    left = sorted(p.name for p in (folder / "checkpoints").iterdir())
    assert left == ["best.ckpt", "last.ckpt", "previous.ckpt"], "nothing in parts stays"


@pytest.mark.long
def test_kills_between_accumulated_batches_change_nothing(runs):
    ends, folder, state = runs["killed, accumulated"]
    assert ends == [-9, -9, 0]
    assert len(_deaths(folder)) == 2
    _same(state, runs["calm, accumulated"][2])


@pytest.mark.long
def test_the_comparison_can_fail(runs):
    calm, averaged = runs["calm"][2], runs["calm, averaged"][2]
    moved = calm["random"]["torch"].clone()
    moved[100] += 1
    for change in ({"weights": averaged["weights"]}, {"random": calm["random"] | {"torch": moved}}, {"steps": 14}):
        with pytest.raises(AssertionError):
            _same(calm | change, calm)


def _checkpoint(path, step):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"global_step": step}, path)


def test_a_half_written_checkpoint_is_never_picked_up(tmp_path, caplog):
    last, previous = (tmp_path / "checkpoints" / name for name in ("last.ckpt", "previous.ckpt"))
    assert last_good(tmp_path) is None
    _checkpoint(previous, 1)
    _checkpoint(last, 2)
    assert last_good(tmp_path) == last
    whole = last.read_bytes()
    for size in (0, 2, len(whole) // 2, len(whole) - 1):
        last.write_bytes(whole[:size])
        assert last_good(tmp_path) == previous, size
    assert str(last) in caplog.text
    previous.unlink()
    assert last_good(tmp_path) is None
