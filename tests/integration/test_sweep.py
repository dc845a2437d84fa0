"""Sweeps by every launcher: jobs have their own folder and seed, a failed one is named and stops nothing."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from geoalign.cli import train
from geoalign.options.entry import composed
from geoalign.options.yamls import CONF
from geoalign.report.__main__ import main as report

SMALL = [
    "backbone.image_size=128", "backbone.grid=16", "backbone.blocks=[4,10]", "refiner.width=32", "refiner.hidden=32",
    "callbacks.progress=null", "data.images={trn: 4, val: 2, test: 3}", "data.pairs={trn: 12, val: 2, test: 6}",
    "data.categories=[cat,cow]", "data.sampler.size=3", "data.sampler.batches=2", "trainer.max_epochs=1",
    "trainer.log_every_n_steps=1", "baseline=false",
]  # fmt: skip


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


@pytest.mark.long
def test_submitit_runs_each_job_in_its_folder_with_its_seed(root, monkeypatch, capfd):
    module = importlib.import_module("hydra_plugins.hydra_submitit_launcher.submitit_launcher")
    monkeypatch.setattr(module.LocalLauncher, "_EXECUTOR", "debug")  # submitit's own for tests: in this process
    out = _sweep(monkeypatch, root, "submitit", *SMALL, "+launcher=submitit_local", "data.test=null", "seed=1,2")
    assert _seeds(out) == [1, 2]
    assert len(set(_weights(out))) == 2
    assert "2 jobs, 0 failed" in capfd.readouterr().out


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
