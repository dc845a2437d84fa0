"""Sweeps: groups compose, a failed job is named and stops nothing, jobs of several processes are refused."""

import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import train

CONF = Path(train.__file__).parent / "conf"
SMALL = [
    "backbone.image_size=128", "backbone.grid=16", "backbone.blocks=[4,10]", "refiner.width=32", "refiner.hidden=32",
    "callbacks.progress=null", "data.images={trn: 4, val: 2, test: 3}", "data.pairs={trn: 12, val: 2, test: 6}",
    "data.categories=[cat,cow]", "data.sampler.size=3", "data.sampler.batches=2", "trainer.max_epochs=1",
    "trainer.log_every_n_steps=1", "baseline=false", "data.test={}",
]  # fmt: skip


def _sweep(monkeypatch, root, *overrides):
    out = root / "sweep"
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", f"paths.root={root}", f"hydra.sweep.dir={out}", *overrides])
    GlobalHydra.instance().clear()
    train.main()
    return out


@pytest.mark.slow
def test_a_failed_job_is_named_and_stops_nothing(tmp_path, monkeypatch, capfd):
    out = _sweep(monkeypatch, tmp_path, *SMALL, "matcher.radius=-3,2")
    assert [(out / job / "FAILED").is_file() for job in "01"] == [True, False]
    assert (out / "1" / "checkpoints" / "best.ckpt").is_file(), "the other ran"
    end = capfd.readouterr().out
    assert "2 jobs, 1 failed" in end
    assert "matcher.radius=-3" in end
    assert f"python -m geoalign.report {out}" in end


def test_jobs_of_several_processes_are_refused_with_the_remedy(tmp_path, monkeypatch, capfd):
    out = _sweep(monkeypatch, tmp_path, "seed=1", "trainer=ddp")
    assert "set trainer.devices=1" in (out / "0" / "FAILED").read_text()
    assert "1 jobs, 1 failed" in capfd.readouterr().out


@pytest.mark.parametrize("group", ["sweep", "launcher", "trainer", "callbacks", "logger"])
def test_every_choice_composes(group):
    for path in sorted((CONF / group).glob("*.yaml")):
        if path.stem == "evaluate":
            continue
        added = "+" if group in ("sweep", "launcher") else ""
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("train", [f"{added}{group}={path.stem}"], return_hydra_config=True)
        assert cfg.hydra is not None
        if group == "trainer":
            assert OmegaConf.to_container(cfg.trainer, resolve=True)["_target_"] == "lightning.Trainer"
        if group == "launcher":
            wanted = {"joblib": "joblib", "slurm": "slurm", "submitit_local": "local"}[path.stem]
            assert wanted in cfg.hydra.launcher._target_.lower() + str(cfg.hydra.launcher)
        if path.stem == "lr":
            assert "optuna" in cfg.hydra.sweeper._target_
        elif group == "sweep":
            assert "seed" in cfg.hydra.sweeper.params
