"""A run that was killed at any moment ends with exactly the weights of the undisturbed one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.spair_tree import write_tree

from geoalign.callbacks.interruption import last_good

TESTS = Path(__file__).parents[1]
HOOKS = ("start", "gradients", "write", "replace", "validation")  # a save at steps 2, 4, 5, 6, ...; epochs of 5


def _train(root, out, moments, **options):
    """Train in a process that dies at the moments; how each attempt ended, and the final state."""
    out.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "helpers.killed", str(root), str(out), json.dumps(moments), json.dumps(options)]
    done = subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    ends = json.loads(done.stdout.splitlines()[-1])
    assert ends[-1] == 0, done.stderr[-3000:]
    return ends, torch.load(out / "final.pt", weights_only=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_tree(root)
    return root


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    return _train(data, tmp_path_factory.mktemp("calm") / "run", [])[1]


def _same(a, b):
    for name in ("weights", "optimizer"):
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)
    assert a["scheduler"] == b["scheduler"]
    assert a["best"] == b["best"]


@pytest.mark.slow
def test_three_kills_and_a_signal_change_nothing(data, undisturbed, tmp_path):
    moments = [["gradients", 3], ["write", 6], ["validation", 10], ["SIGTERM", 11]]
    ends, state = _train(data, tmp_path / "run", moments)
    assert ends == [-9, -9, -9, 128 + 15, 0]
    _same(state, undisturbed)
    left = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert left == ["best.ckpt", "last.ckpt", "previous.ckpt"], "nothing in parts stays"


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
