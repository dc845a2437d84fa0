"""Sweeps by every launcher: jobs have their own folder and seed, a failed one is named and stops nothing."""

import csv
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from geoalign.cli import train
from geoalign.options.entry import composed
from geoalign.options.yamls import CONF
from geoalign.report.__main__ import main as report
from geoalign.results.summary import read_summary

SMALL = [
    "backbone.image_size=128", "backbone.grid=16", "backbone.blocks=[4,10]", "refiner.width=32", "refiner.hidden=32",
    "callbacks.progress=null", "data.images={trn: 4, val: 2, test: 3}", "data.pairs={trn: 12, val: 2, test: 6}",
    "data.categories=[cat,cow]", "data.sampler.size=3", "data.sampler.batches=2", "trainer.max_epochs=1",
    "trainer.log_every_n_steps=1", "baseline=false",
]  # fmt: skip
LONGER = ["data.sampler.batches=30", "trainer.max_epochs=3", "callbacks.interruption.every=5"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Where every sweep finds the pictures and features of the first."""
    return tmp_path_factory.mktemp("sweeps")


def _sweep(monkeypatch, root, name, *overrides):
    out = root / "multirun" / name
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", f"paths.root={root}", f"hydra.sweep.dir={out}", *overrides])
    GlobalHydra.instance().clear()
    train.main()
    return out


def _seeds(out):
    return [yaml.safe_load((job / "config" / "config.yaml").read_text())["seed"] for job in sorted(out.glob("[0-9]"))]


def _weights(out):
    return [(job / "checkpoints" / "best.ckpt").read_bytes() for job in sorted(out.glob("[0-9]"))]


@pytest.mark.long
def test_a_failed_job_is_named_and_stops_nothing(root, monkeypatch, capfd):
    out = _sweep(monkeypatch, root, "basic", *SMALL, "matcher.radius=-3,2", "seed=1")
    assert [(out / job / "FAILED").is_file() for job in "01"] == [True, False]
    assert (out / "1" / "checkpoints" / "best.ckpt").is_file(), "the other ran"
    end = capfd.readouterr().out
    assert "2 jobs, 1 failed" in end
    assert "matcher.radius=-3" in end
    assert f"geoalign report {out}" in end
    assert report([str(out.parent)]) == 0
    rows = [line for line in capfd.readouterr().out.splitlines() if line.startswith("|")]
    assert any(line.startswith("| train: matcher.radius=2 ") for line in rows)
    assert any(line.startswith("| failed: matcher.radius=-3 ") and "—" in line for line in rows)


def _slurm():
    """What SLURM tells a job of one process, and a port of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one = dict.fromkeys(("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_NNODES"), "1")
    first = dict.fromkeys(("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"), "0")
    return {**os.environ, **one, **first, "SLURM_JOB_ID": "17", "SLURM_NODELIST": "127.0.0.1", "MASTER_PORT": str(port)}


def _started(root, *words):
    words = [*words, f"paths.root={root}", *SMALL, *LONGER, "trainer=slurm", "trainer.accelerator=cpu", "seed=1"]
    return subprocess.Popen([sys.executable, "-m", "geoalign.cli", "train", *words], env=_slurm())


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value.tolist() if isinstance(value, torch.Tensor) else value


@pytest.mark.long
def test_a_preempted_slurm_job_is_queued_again_and_ends_as_if_nothing_had_been(root):
    """SLURM stands in the environment; what starts, stops and starts the job again is submitit."""
    calm, out = root / "calm", root / "multirun" / "slurm"
    job = out / "0"
    with _started(root, f"hydra.run.dir={calm}") as one:
        with _started(root, "-m", "+launcher=submitit_local", f"hydra.sweep.dir={out}") as other:
            while not (job / "checkpoints" / "last.ckpt").exists() and other.poll() is None:
                time.sleep(0.02)
            os.kill(json.loads((job / "run.lock").read_text())["pid"], signal.SIGUSR2)
        assert one.wait() == other.returncode == 0
    said = (job / "train.log").read_text()
    assert said.count("SIGUSR2: saved") == 1
    assert said.count("Requeued job") == 1
    states = [torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (calm, job)]
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "random_state"):
        assert _plain(states[0][part]) == _plain(states[1][part]), part
    results = [read_summary(folder / "results" / "refined")["evaluations"] for folder in (calm, job)]
    assert results[0] == results[1]
    rows = [list(csv.DictReader((folder / "csv" / "metrics.csv").open())) for folder in (calm, job)]
    assert [r["train/loss/total"] for r in rows[0]] == [r["train/loss/total"] for r in rows[1]], "every row once"


def test_the_search_recipe_learns_from_runs_and_outlives_a_failed_one(tmp_path, monkeypatch):
    """Optuna itself is no part of an installation: a study that hands out the same settings stands for it."""
    told, started = {}, []

    class Study(list):
        trials = property(list)

        def ask(self):
            self.append(len(self))
            return SimpleNamespace(number=self[-1], suggest_float=lambda name, low, high, log: low)

        def tell(self, trial, score, state):
            told[trial.number] = score, state

    def run(command, check):
        assert command.pop(0) == "geoalign"
        folder = Path(command[1].removeprefix("hydra.run.dir="))
        started.append(command[2:])
        (folder / "csv").mkdir(parents=True)
        (folder / "csv" / "metrics.csv").write_text(f"step,{recipe.OBJECTIVE}\n1,0.2\n2,\n3,0.5\n")
        return SimpleNamespace(returncode=int(folder.name == "1"))

    optuna = MagicMock()
    optuna.create_study.return_value = Study()
    monkeypatch.setitem(sys.modules, "optuna", optuna)
    spec = importlib.util.spec_from_file_location(
        "recipe", Path(__file__).parents[2] / "docs" / "recipes" / "search.py"
    )
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    monkeypatch.setattr(recipe.subprocess, "run", run)
    recipe.search(tmp_path, 3, ["trainer.max_epochs=3"])
    assert told == {0: (0.5, None), 1: (None, optuna.trial.TrialState.FAIL), 2: (0.5, None)}
    assert composed("train", []).objective == recipe.OBJECTIVE
    composed("train", started[0])
    assert "data.test=null" in started[0]


@pytest.mark.long
def test_joblib_runs_jobs_side_by_side(root):
    out = root / "multirun" / "joblib"
    places = [f"paths.root={root}", f"hydra.sweep.dir={out}"]
    words = [*places, *SMALL, "+launcher=joblib", "data.test=null", "seed=1,2"]
    # in a process of its own: functions whose annotations are checked cannot be sent to others
    done = subprocess.run(
        [sys.executable, "-m", "geoalign.cli", "train", "-m", *words], capture_output=True, text=True, check=True
    )
    assert _seeds(out) == [1, 2]
    assert len(set(_weights(out))) == 2
    assert "2 jobs, 0 failed" in done.stdout


def test_jobs_of_several_processes_are_refused_with_the_remedy(tmp_path, monkeypatch, capfd):
    out = _sweep(monkeypatch, tmp_path, "several", "seed=1", "trainer=ddp")
    assert "set trainer.devices=1" in (out / "0" / "FAILED").read_text()
    assert "1 jobs, 1 failed" in capfd.readouterr().out


@pytest.mark.parametrize("group", ["sweep", "launcher", "trainer", "callbacks", "logger"])
def test_every_choice_composes(group):
    for path in sorted((CONF / group).glob("*.yaml")):
        if path.stem == "evaluate":
            continue
        added = "+" if group in ("sweep", "launcher") else ""
        cfg = composed("train", [f"{added}{group}={path.stem}"])
        assert cfg.hydra is not None
        if group == "trainer":
            assert OmegaConf.to_container(cfg.trainer, resolve=True)["_target_"] == "lightning.Trainer"
        if group == "launcher":
            wanted = {"joblib": "joblib", "slurm": "slurm", "submitit_local": "local"}[path.stem]
            assert wanted in cfg.hydra.launcher._target_.lower() + str(cfg.hydra.launcher)
        if group == "sweep":
            assert "seed" in cfg.hydra.sweeper.params
