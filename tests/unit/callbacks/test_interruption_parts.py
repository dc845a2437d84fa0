"""Random states as plain data; publishing a checkpoint; a loss that is not finite."""

import random

import numpy as np
import pytest
import torch
from helpers.spair_tree import write_tree
from helpers.tiny import tiny_module
from lightning import Callback, Trainer

from geoalign.callbacks import Interruption
from geoalign.callbacks.checkpoints import last_good, publish
from geoalign.callbacks.interruption import requeue
from geoalign.callbacks.random_state import collect, restore
from geoalign.data.batch.samplers import PairSampler
from geoalign.data.batch.views import PixelLoader
from geoalign.data.datamodule import Connection, PairDataModule
from geoalign.data.readers.spair import SPair71k
from geoalign.module import NonFiniteLoss


def _draw():
    return torch.rand(3).tolist(), np.random.rand(3).tolist(), [random.random() for _ in range(3)]  # noqa: NPY002


def test_draws_repeat_after_a_trip_through_a_file(tmp_path):
    _draw()
    random.gauss(0, 1)  # leaves a second value for later
    np.random.standard_normal()  # noqa: NPY002
    torch.save(collect(), tmp_path / "state.pt")
    expected = _draw(), random.gauss(0, 1), np.random.standard_normal()  # noqa: NPY002
    restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (_draw(), random.gauss(0, 1), np.random.standard_normal()) == expected  # noqa: NPY002


def test_publish_keeps_the_one_before(tmp_path):
    for text in ("one", "two", "three"):
        (tmp_path / "part").write_text(text)
        publish(tmp_path / "part", tmp_path)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"last.ckpt": "three", "previous.ckpt": "two"}


def test_every_is_at_least_one(tmp_path):
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Interruption(tmp_path, every=0)


def test_requeue_calls_slurm_and_says_when_it_refuses(tmp_path, monkeypatch, caplog):
    requeue()  # outside SLURM: nothing
    fake = tmp_path / "scontrol"
    fake.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\necho refused >&2\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    requeue()
    assert (tmp_path / "calls").read_text() == "requeue 17\n"
    assert "refused; submit it again" in caplog.text


class Poison(Callback):
    """Makes a weight NaN before a step."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 2:
            pl_module.refiner.mixing_weights.data.fill_(float("nan"))


def test_a_loss_that_is_not_finite_names_its_pairs_and_leaves_the_last_good_checkpoint(tmp_path):
    write_tree(tmp_path / "data")
    source = SPair71k(tmp_path / "data")
    module = tiny_module()
    data = PairDataModule(source, sampler=lambda s: PairSampler(s, 2, seed=3))
    data.connect(Connection(PixelLoader((64,))))
    seen = [[source[d.pair].pair_id for d in batch] for batch in PairSampler(source, 2, seed=3)]
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        callbacks=[Poison(), Interruption(tmp_path / "checkpoints", every=1)],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    with pytest.raises(NonFiniteLoss, match="nan at step 2") as stop:
        trainer.fit(module, data)
    assert all(pair in str(stop.value) for pair in seen[2])
    path = last_good(tmp_path)
    saved = torch.load(path, weights_only=True)
    assert saved["global_step"] == 2
    assert all(v.isfinite().all() for v in saved["state_dict"].values())
