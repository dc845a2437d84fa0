"""Going on as another run is refused by name; what changes no result is allowed."""

import copy
from pathlib import Path

import pytest
import torch
from helpers.tiny import tiny_module
from lightning import Callback, Trainer
from omegaconf import OmegaConf

from geoalign.callbacks.same_run import RUN, SameRun, check, differences, record
from geoalign.options.entry import composed

FREE = [
    ("name", "other"),
    ("published", "geo_sc"),
    ("baseline", False),
    ("compile", True),
    ("resume", "auto"),
    ("paths.root", "/elsewhere"),
    ("data.root", "/elsewhere"),
    ("data.train.cache", "/elsewhere"),
    ("data.workers", 8),
    ("data.eval_batch", 7),
    ("data.eval_views", None),
    ("store.root", "/elsewhere"),
    ("store.preload", "cuda"),
    ("logger.csv.save_dir", "/elsewhere"),
    ("logger.wandb.project", "x"),
    ("callbacks.figures.every", 2),
    ("callbacks.progress.refresh_rate", 5),
    ("callbacks.interruption.every", 5),
    ("trainer.accelerator", "gpu"),
    ("trainer.devices", 4),
    ("trainer.strategy", "ddp"),
    ("trainer.log_every_n_steps", 1),
    ("trainer.max_epochs", 9),
    ("trainer.max_epochs", -1),
    ("refiner.checkpointing", True),
    ("backbone.weights", "/elsewhere.pt"),
    ("initial", "/elsewhere.ckpt"),
]
SAME = [
    ("seed", 1),
    ("optimizer.lr", 1.0),
    ("optimizer._target_", "torch.optim.SGD"),
    ("scheduler.pct_start", 0.5),
    ("loss.kinds.self", 1.0),
    ("loss.weights.dense", 2.0),
    ("matcher.radius", 3),
    ("refiner.width", 64),
    ("backbone.grid", 30),
    ("alphas", [0.1]),
    ("strict", False),
    ("objective", "val/x"),
    ("alignment.poses", ["upright", "rot90"]),
    ("store.precision", "int8"),
    ("data.seed", 1),
    ("data.sampler.size", 3),
    ("data.limits.train", 8),
    ("callbacks.ema.decay", 0.9),
    ("callbacks.checkpoint.mode", "min"),
    ("trainer.max_epochs", 1),
    ("trainer.precision", "bf16-mixed"),
    ("trainer.gradient_clip_val", 1.0),
    ("trainer.accumulate_grad_batches", 2),
    ("trainer.check_val_every_n_epoch", 2),
    ("trainer.limit_train_batches", 3),
]
CONTENT = {"data.train": "a", "data.val.synthetic": "b", "backbone": "c", "initial": "none"}


@pytest.fixture(scope="module")
def config():
    cfg = composed("train", [])
    OmegaConf.set_struct(cfg, False)
    cfg.hydra.runtime.output_dir = "/runs/one"
    from hydra.core.hydra_config import HydraConfig

    HydraConfig.instance().set_config(cfg)
    cfg = copy.deepcopy(cfg)
    cfg.pop("hydra")
    return OmegaConf.to_container(cfg, resolve=True)


def _changed(config, key, value):
    cfg = OmegaConf.create(copy.deepcopy(config))
    OmegaConf.update(cfg, key, value, force_add=True)
    return OmegaConf.to_container(cfg)


@pytest.mark.parametrize(("key", "value"), FREE)
def test_what_changes_no_result_is_allowed(config, tmp_path, key, value):
    now = record(_changed(config, key, value), tmp_path, CONTENT)
    check(record(config, tmp_path, CONTENT), now, "last.ckpt")


@pytest.mark.parametrize(("key", "value"), SAME)
def test_what_changes_results_is_refused_by_name(config, tmp_path, key, value):
    now = record(_changed(config, key, value), tmp_path)  # known before anything is built
    with pytest.raises(ValueError, match=rf"last.ckpt is of another run: .*{key} was .*, is .*; undo that.*initial="):
        check(record(config, tmp_path, CONTENT), now, "last.ckpt")


@pytest.mark.parametrize("part", CONTENT)
def test_other_content_is_refused_where_nothing_in_the_configuration_tells(config, tmp_path, part):
    now = record(config, tmp_path, CONTENT | {part: "other"})
    with pytest.raises(ValueError, match=f"the content of {part} is another"):
        check(record(config, tmp_path, CONTENT), now, "last.ckpt")


def test_other_content_is_named_by_the_keys_that_lead_to_it(config, tmp_path):
    before, now = record(config, tmp_path, CONTENT), record(config, tmp_path, CONTENT | {"data.train": "other"})
    now["config"] = now["config"] | {"data.train.split": "val", "data.images.trn": 3}
    assert differences(before, now) == ["data.train.split was trn, is val"]


def test_a_dataset_more_or_less_is_seen(config, tmp_path):
    now = record(config, tmp_path, {k: v for k, v in CONTENT.items() if k != "data.val.synthetic"})
    assert "data.val.synthetic" in differences(record(config, tmp_path, CONTENT), now)[0]


def test_a_folder_may_have_moved(config, tmp_path):
    config = _changed(config, "callbacks.checkpoint.dirpath", "elsewhere")
    one, two = (_changed(config, "callbacks.own.folder", f"/runs/{name}/own") for name in ("one", "two"))
    assert not differences(record(one, Path("/runs/one"), CONTENT), record(two, Path("/runs/two"), CONTENT))
    assert differences(record(one, Path("/runs/two"), CONTENT), record(two, Path("/runs/two"), CONTENT))


def test_a_checkpoint_without_a_record_is_taken_with_a_word(config, tmp_path, caplog):
    check(None, record(config, tmp_path, CONTENT), "last.ckpt")
    assert "nothing is compared" in caplog.text


def test_the_record_travels_in_the_checkpoint_as_plain_data(config, tmp_path):
    callback, checkpoint = SameRun(record(config, tmp_path, CONTENT)), {}
    callback.on_save_checkpoint(Trainer(logger=False, accelerator="cpu"), tiny_module(), checkpoint)
    torch.save(checkpoint, tmp_path / "x.ckpt")
    assert not differences(torch.load(tmp_path / "x.ckpt", weights_only=True)[RUN], callback.record)
    assert isinstance(callback, Callback)
