"""Wiring: one refiner pass per view, frozen parts stay frozen, checkpoints hold the refiner."""

import pytest
import torch
from helpers.spair_tree import write_tree
from helpers.tiny import TinyBackbone, tiny_module
from lightning import Trainer

from geoalign.callbacks import PoseAlignment
from geoalign.data.batch.samplers import CliqueSampler
from geoalign.data.batch.views import PixelLoader
from geoalign.data.datamodule import Connection, Limits, PairDataModule
from geoalign.data.readers.spair import SPair71k
from geoalign.data.records import DataError
from geoalign.losses import Cosine, GaussianLoss, WeightedSum
from geoalign.matching import Aligned, Plain
from geoalign.module import CorrespondenceModule
from geoalign.types import DatasetInfo

KINDS = {"plain": 1.0, "single": 1.0, "double": 1.0, "self": 0.25}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("spair")
    write_tree(root)
    return SPair71k(root)


def _run(source, module, alignment=None, **trainer):
    sampler = lambda s: CliqueSampler(s, size=3, batches=2)  # noqa: E731
    data = PairDataModule(source, {"mini": source}, {"mini": source}, sampler, eval_batch=3)
    kinds = tuple(module.loss.kinds)
    data.connect(Connection(PixelLoader((64,)), kinds, module.poses))
    module.describe({stage: [DatasetInfo("mini", source.categories)] for stage in ("val", "test")})
    runner = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[alignment] if alignment else [],
        **trainer,
    )
    return runner, data


def test_training_runs_the_refiner_once_per_view(source):
    module = tiny_module(**KINDS)
    seen = []
    module.refiner.register_forward_hook(lambda _, args, out: seen.append(len(out)))
    runner, data = _run(source, module, limit_val_batches=0)
    views, rows = [], []
    module.on_train_batch_start = lambda batch, _: (
        views.append(len(batch["views"]["images"][64])),
        rows.append(len(batch["src"])),
    )
    runner.fit(module, data)
    assert seen == views, "one pass per batch, over its unique views"
    assert all(r > v for r, v in zip(rows, views, strict=True)), "there are more rows than views"


def test_training_changes_the_refiner_and_nothing_frozen(source):
    module = tiny_module(**KINDS)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    runner, data = _run(source, module, limit_val_batches=0)
    runner.fit(module, data)
    changed = {k for k, v in module.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert not any(k.startswith("backbone.") for k in changed)
    assert not module.backbone.training
    assert "refiner.self_logit_scale" not in changed


def test_every_epoch_draws_anew(source):
    module, drawn = tiny_module(), []
    runner, data = _run(source, module, limit_val_batches=0)
    runner.fit_loop.max_epochs = 3
    module.on_train_batch_start = lambda batch, index: drawn.append((module.current_epoch, batch["noise"]))
    runner.fit(module, data)
    assert [epoch for epoch, _ in drawn] == [0, 0, 1, 1, 2, 2]
    noises = [noise for _, noise in drawn]
    pairs = [(a, b) for i, a in enumerate(noises) for b in noises[i + 1 :]]
    assert not any(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


def test_a_checkpoint_is_small_plain_and_loads_strictly(source, tmp_path):
    module = tiny_module(**KINDS)
    runner, data = _run(source, module, limit_val_batches=0)
    runner.fit(module, data)
    runner.save_checkpoint(tmp_path / "x.ckpt")
    loaded = torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert loaded["state_dict"]
    assert all(k.startswith("refiner.") for k in loaded["state_dict"])
    other = tiny_module(TinyBackbone(seed=0), **KINDS)
    again, data = _run(source, other, limit_val_batches=0)
    again.fit(other, data, ckpt_path=tmp_path / "x.ckpt", weights_only=True)
    assert again.global_step == runner.global_step


def test_metrics_are_logged_plain_and_aligned(source):
    module = tiny_module(methods=(Plain(), Aligned(distance="mutual")), **KINDS)
    runner, data = _run(source, module, PoseAlignment())
    runner.test(module, data, verbose=False)
    got = runner.callback_metrics
    for key in ("test/mini/pck@0.10/image", "test/mini/aligned/pck@0.10/keypoint", "test/mini/pose/chosen_flip"):
        assert 0 <= float(got[key]) <= 1
    assert got["test/mini/count/pairs"] == len(source)
    chosen = got["test/mini/pose/chosen_flip"] + got["test/mini/pose/chosen_upright"]
    assert float(chosen) == pytest.approx(1)


def test_a_scale_that_no_term_reads_is_not_trained():
    """Several ranks would wait for its gradient."""
    module = tiny_module()
    assert "logit_scale" in module.refiner.trained()
    loss = WeightedSum({"plain": 1.0}, gaussian=GaussianLoss())
    CorrespondenceModule(module.refiner, module.matcher, module.backbone, loss)
    assert "logit_scale" not in module.refiner.trained()


def test_missing_parts_are_named(source):
    module = tiny_module()
    module.backbone = None
    with pytest.raises(RuntimeError, match="no backbone"):
        module.maps({"images": {}})
    module.loss = None
    with pytest.raises(RuntimeError, match="no loss"):
        module.training_step({}, 0)
    module.make_optimizer = None
    with pytest.raises(RuntimeError, match="no optimizer"):
        module.configure_optimizers()


def test_datamodule_refuses_what_cannot_run(source):
    with pytest.raises(DataError, match="no training dataset"):
        PairDataModule(test={"mini": source}).train_dataloader()
    with pytest.raises(DataError, match="validation sets"):
        PairDataModule(val={"mini": source}, primary="other")
    with pytest.raises(RuntimeError, match="not connected"):
        PairDataModule(val={"mini": source}).val_dataloader()
    limited = PairDataModule(test={"mini": source}, limits=Limits(test=3))
    assert len(limited.test_pairs("mini")) == 3


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"poses": ["flip", "upright"]}, "upright and at least one other"),
        ({"poses": ["upright"]}, "at least one other"),
        ({"poses": ["upright", "sideways"]}, "pose is upright"),
        ({"distance": "nearest"}, "one of auto, masked"),
    ],
)
def test_alignment_settings_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        Aligned(**options)


def test_a_schedule_longer_than_training_is_refused_before_the_first_step(source):
    module = tiny_module()
    sigma = Cosine(3.5, 1.0, 1000, 12000, "steps")
    module.loss = WeightedSum({"plain": 1.0}, gaussian=GaussianLoss(sigma))
    runner, data = _run(source, module, limit_val_batches=0)
    with pytest.raises(ValueError, match="arrives at step 12000, training has 2 steps"):
        runner.fit(module, data)
    assert runner.global_step == 0


def test_terms_are_told_the_step_and_the_length_of_training(source):
    module, told = tiny_module(), []

    class Told(GaussianLoss):
        def forward(self, bank, batch, moment, reads=None):
            told.append((moment.step, moment.steps))
            return super().forward(bank, batch, moment, reads)

    module.loss = WeightedSum({"plain": 1.0}, told=Told(Cosine(3.0, 1.0), temperature=None))
    runner, data = _run(source, module, limit_val_batches=0)
    runner.fit_loop.max_epochs = 2
    runner.fit(module, data)
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4)]
