"""A run that was killed at any moment ends with exactly the weights of the undisturbed one."""

import csv
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

from geoalign.callbacks.checkpoints import last_good, read_checkpoint

TESTS = Path(__file__).parents[1]
TEN = sorted(random.Random(2).sample(all_moments(), 10), key=all_moments().index)
"""Ten moments of a run, drawn with a seed; in order of time, so that each attempt comes by its own."""
NAMED = [
    ("gradients", 3), ("published", 4), ("write", 6), ("validation", 10), ("published", 10),
    ("SIGTERM", 11), ("SIGINT", 13),
]  # fmt: skip
OFTEN = {"val_check_interval": 2}
JOBS = {
    "calm": ([], {}),
    "named": (NAMED, {}),
    "signals, workers": ([("SIGINT", 6), ("SIGTERM", 11)], {"workers": 1}),
    "calm, averaged": ([], {"average": True}),
    "ten, averaged": (TEN, {"average": True}),
    "calm, validated": ([], OFTEN),
    "killed, validated": ([("start", 2), ("validation", 4), ("start", 7), ("SIGTERM", 8), ("start", 11)], OFTEN),
    "calm, accumulated": ([], {"accumulate_grad_batches": 2}),
    "killed, accumulated": ([("gradients", 3), ("start", 5)], {"accumulate_grad_batches": 2}),
    "calm, tail": ([], {"tail": True, "average": True}),
    "killed, tail": ([("gradients", 3), ("write", 6), ("SIGTERM", 11)], {"tail": True, "average": True}),
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
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(TESTS), str(TESTS.parent))),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
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
@pytest.mark.parametrize(
    ("killed", "calm"),
    [("ten, averaged", "calm, averaged"), ("named", "calm"), ("killed, validated", "calm, validated")],
)
def test_the_log_of_a_killed_run_has_every_row_once(runs, killed, calm):
    logs = [list(csv.DictReader((runs[name][1] / "csv" / "metrics.csv").open())) for name in (killed, calm)]
    assert logs[0] == logs[1]
    assert sum(bool(row["train/loss/total"]) for row in logs[0]) == STEPS


@pytest.mark.long
def test_kills_and_signals_change_nothing(runs):
    ends, folder, state = runs["named"]
    assert ends == [-9, -9, -9, -9, -9, 128 + 15, 128 + 2, 0]
    assert [(d["hook"], d["step"]) for d in _deaths(folder)] == NAMED
    _same(state, runs["calm"][2])
    left = sorted(p.name for p in (folder / "checkpoints").iterdir())
    assert left == ["best.ckpt", "last.ckpt", "previous.ckpt"], "nothing in parts stays"


@pytest.mark.long
def test_signals_that_the_workers_of_a_loader_get_too_change_nothing(runs):
    ends, _, state = runs["signals, workers"]
    assert ends == [128 + 2, 128 + 15, 0]
    _same(state, runs["calm"][2])


@pytest.mark.long
def test_kills_around_a_validation_inside_an_epoch_change_nothing(runs):
    ends, folder, state = runs["killed, validated"]
    assert ends == [-9, -9, -9, 128 + 15, -9, 0]
    assert len(_deaths(folder)) == 5
    _same(state, runs["calm, validated"][2])


@pytest.mark.long
def test_kills_between_accumulated_batches_change_nothing(runs):
    ends, folder, state = runs["killed, accumulated"]
    assert ends == [-9, -9, 0]
    assert len(_deaths(folder)) == 2
    _same(state, runs["calm, accumulated"][2])


@pytest.mark.long
def test_kills_change_nothing_of_a_tail(runs):
    ends, _, state = runs["killed, tail"]
    assert ends == [-9, -9, 128 + 15, 0]
    _same(state, runs["calm, tail"][2])
    assert any("lora_B" in name for name in state["weights"])
    assert not any("base_layer" in name for name in state["weights"]), "what it started from is in no checkpoint"


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
    torch.save({"global_step": step, "state_dict": {"refiner.a": torch.arange(50.0)}}, path)
    return path.read_bytes()


def test_a_damaged_checkpoint_is_never_picked_up(tmp_path, caplog):
    last, previous = (tmp_path / "checkpoints" / name for name in ("last.ckpt", "previous.ckpt"))
    assert last_good(tmp_path) is None
    _checkpoint(previous, 1)
    whole = _checkpoint(last, 2)
    assert last_good(tmp_path) == last
    torch.save([1, 2], tmp_path / "list")
    empty = b"PK\x05\x06" + bytes(18)
    for bad in (b"", whole[:2], whole[: len(whole) // 2], whole[:-1], empty, (tmp_path / "list").read_bytes()):
        last.write_bytes(bad)
        assert last_good(tmp_path) == previous, len(bad)
    assert str(last) in caplog.text
    last.unlink()
    last.mkdir()
    assert last_good(tmp_path) == previous, "a folder"
    previous.unlink()
    assert last_good(tmp_path) is None


def test_a_flipped_bit_is_seen_or_changes_nothing(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    whole = _checkpoint(path, 2)
    rng, seen = random.Random(0), 0
    for at in rng.sample(range(len(whole)), 300):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        if last_good(tmp_path) is None:
            seen += 1
            continue
        content = read_checkpoint(path)
        assert content["global_step"] == 2
        assert torch.equal(content["state_dict"]["refiner.a"], torch.arange(50.0))
    assert seen > 100


@pytest.mark.parametrize("error", [MemoryError, KeyError, AttributeError, AssertionError, RecursionError, TypeError])
def test_a_file_that_unpickles_wrongly_is_left_for_an_older_one(tmp_path, monkeypatch, error):
    last, previous = (tmp_path / "checkpoints" / name for name in ("last.ckpt", "previous.ckpt"))
    _checkpoint(last, 2), _checkpoint(previous, 1)
    real = torch.load

    def load(path, **options):
        if Path(path) == last:
            raise error
        return real(path, **options)

    monkeypatch.setattr(torch, "load", load)
    assert last_good(tmp_path) == previous
