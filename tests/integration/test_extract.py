"""The extract command as a user calls it: fill, resume, verify, repair, refuse; and runs on a filled store."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.scripts import call
from helpers.spair_tree import write_tree

from geoalign.cli import evaluate, extract

ROOT = Path(__file__).parents[2]
TINY = ["~backbone", "+backbone._target_=helpers.tiny.TinyBackbone"]


def data(root):
    source = f"{{_target_: geoalign.data.readers.spair.SPair71k, root: {root / 'spair'}, split: test}}"
    target = "+data._target_=geoalign.data.datamodule.PairDataModule"
    return ["~data", target, f"+data.test.mini={source}", "+data.workers=0"]


def command(root, *overrides):
    return [f"paths.root={root}", "callbacks.progress=null", *TINY, *data(root), *overrides]


@pytest.fixture
def root(tmp_path):
    write_tree(tmp_path / "spair")
    for path in (tmp_path / "spair/JPEGImages").rglob("*.jpg"):
        path.write_bytes(path.read_bytes() + path.stem.encode())  # pictures of one size would be one file
    return tmp_path


def stored(root):
    return sorted((root / "cache/features").rglob("*.safetensors"))


def test_it_fills_and_then_has_nothing_to_do(root, capfd):
    assert call(extract, *command(root, "poses=[upright,flip]", "batch=2")) == 0
    said = capfd.readouterr().out
    assert "10 views: features take" in said
    assert "10 views extracted" in said
    before = {path: path.stat().st_mtime_ns for path in stored(root)}
    assert call(extract, *command(root, "poses=[upright,flip]")) == 0
    assert "0 views extracted" in capfd.readouterr().out
    assert call(extract, *command(root, "poses=[upright,rot90]")) == 0
    assert "5 views extracted" in capfd.readouterr().out
    assert before.items() <= {path: path.stat().st_mtime_ns for path in stored(root)}.items()


def test_an_evaluation_finds_everything_made(root, capfd):
    assert call(extract, *command(root, "masks=foreground")) == 0
    files = {path: path.stat().st_mtime_ns for path in (root / "cache").rglob("*") if path.is_file()}
    assert sum(path.suffix == ".png" for path in files) == 5
    run = ["refiner=identity", "alignment.masks=foreground", "alignment.distance=masked", "store.preload=cpu"]
    assert call(evaluate, *command(root, *run, f"hydra.run.dir={root / 'run'}")) == 0
    assert (root / "run/results/zero-shot/summary.json").is_file()
    assert {path: path.stat().st_mtime_ns for path in (root / "cache").rglob("*") if path.is_file()} == files


def test_damage_is_found_repaired_and_only_that_redone(root, capfd):
    call(extract, *command(root, "poses=[upright]"))
    call(extract, *command(root, "poses=[flip]"))
    assert call(extract, *command(root, "verify=true", f"hydra.run.dir={root / 'check'}")) == 0
    assert "10 views, whole" in capfd.readouterr().out
    assert not (root / "check").exists(), "checking leaves no run behind"
    victim = stored(root)[0]
    torn = bytearray(victim.read_bytes())
    torn[-5] ^= 1
    victim.write_bytes(torn)
    assert call(extract, *command(root, "verify=true")) == 1
    said = capfd.readouterr()
    assert victim.stem in said.out
    assert "error: 1 damaged views" in said.err
    assert call(extract, *command(root, "repair=true")) == 0
    assert "9 views, 1 damaged views deleted" in capfd.readouterr().out
    assert call(extract, *command(root)) == 0
    assert "1 views extracted" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["store=off"], "set store=disk"),
        (["stages=[train,dev]"], "stages are of train, val, test, got 'dev'"),
        (["poses=[sideways]"], "pose is upright, flip"),
        (["masks=none"], "masks is dataset, foreground or sam"),
        (["masks=foreground", "poses=[flip]"], "add upright to poses"),
    ],
)
def test_bad_input_is_one_line(root, capfd, overrides, said):
    assert call(extract, *command(root, *overrides)) == 1
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert said in errors[0]
    assert not (root / "cache").exists()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["store.preload=cuda", "data.workers=2"], "set data.workers=0"),
        (["alignment.masks=sam", "store=off"], "set store=disk"),
        (["alignment.masks=none", "alignment.distance=masked"], "alignment.masks is dataset"),
    ],
)
def test_runs_refuse_what_cannot_be(root, capfd, overrides, said):
    assert call(evaluate, *command(root, "refiner=identity", *overrides)) == 1
    assert said in capfd.readouterr().err
    assert not stored(root)


def test_an_error_deletes_nothing_of_the_users(root, capfd):
    (root / "thesis.tex").write_text("years of work")
    assert call(extract, *command(root, "store=off", f"hydra.run.dir={root}")) == 1
    assert (root / "thesis.tex").read_text() == "years of work"


@pytest.mark.slow
def test_two_processes_of_the_command_share_the_work(root):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    ranks = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "geoalign.cli", "extract", *command(root, *ranks)],
        env=environment, capture_output=True, text=True, timeout=300, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("features take") == 1
    assert len(stored(root)) == 10
