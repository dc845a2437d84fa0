"""What dashboards are told: names of runs, groups, which numbers, how many."""

import pytest

from geoalign.callbacks.loggers import TensorBoardLog, WandbLog, said, title, wandb_logger


class Summary(dict):
    """Stands for wandb's run."""

    @property
    def summary(self):
        return self


def test_jobs_of_a_sweep_have_names_of_their_own_and_one_group(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    sweep = tmp_path / "multirun" / "2026-01-01"
    made = [
        wandb_logger(str(sweep / str(n)), "train", [f"matcher.radius={n}", "seed=1", "paths.root=/x"], str(sweep))
        for n in (2, 7)
    ]
    assert [one._wandb_init["name"] for one in made] == ["train radius=2 seed=1", "train radius=7 seed=1"]
    assert {one._wandb_init["group"] for one in made} == {"train 2026-01-01"}


def test_seeds_of_one_setting_are_a_group(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    made = [
        wandb_logger(str(tmp_path / seed), "train", ["optimizer.lr=1e-3", f"seed={seed}"], str(tmp_path / "sweep"))
        for seed in "12"
    ]
    assert {one._wandb_init["group"] for one in made} == {"train lr=1e-3"}
    named = wandb_logger(str(tmp_path), "train", ["seed=1"], "", name="mine", group="ours", job_type="evaluate")
    assert [named._wandb_init[key] for key in ("name", "group", "job_type")] == ["mine", "ours", "evaluate"]


def test_long_names_are_cut():
    assert len(title("train", said([f"loss.term{i}.weight={i}" for i in range(40)]))) == 100


def test_a_full_summary_takes_the_first_and_renews_what_it_has(tmp_path, monkeypatch):
    run = Summary()
    monkeypatch.setattr(WandbLog, "experiment", property(lambda self: run))
    log = WandbLog("main", 3, {}, save_dir=str(tmp_path), offline=True)
    log.summarise({"a": 1.0, "test/x/count/pairs": 9.0, "b": 2.0})
    log.summarise({"c": 3.0, "d": 4.0})
    log.summarise({"a": 5.0})
    assert run == {"a": 5.0, "b": 2.0, "c": 3.0}
    whole = WandbLog("all", None, {}, save_dir=str(tmp_path), offline=True)
    whole.summarise({f"test/x/mirror/pck@0.{i}/image": 0.0 for i in range(10, 99)})
    assert len(run) == 3 + 89


@pytest.mark.unchecked
@pytest.mark.parametrize("make", [TensorBoardLog, wandb_logger])
def test_other_keys_are_refused(make, tmp_path):
    with pytest.raises(ValueError, match="keys are main or all, got 'some'"):
        make(str(tmp_path), keys="some")


def test_a_missing_package_is_named_with_the_remedy(tmp_path, monkeypatch):
    def refuse(self, *_, **__):
        raise ModuleNotFoundError("Neither `tensorboard` nor `tensorboardX` is available.")

    monkeypatch.setattr("lightning.pytorch.loggers.TensorBoardLogger.__init__", refuse)
    with pytest.raises(ImportError, match=r"pip install 'geoalign\[tensorboard\]'"):
        TensorBoardLog(str(tmp_path))
