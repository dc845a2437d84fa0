"""Checkpoints, averages, publishing and loading hold for any refiner that keeps the contract."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from helpers.spair_tree import write_tree
from helpers.tiny import TinyBackbone
from lightning import Trainer
from torch import nn

from geoalign import publish
from geoalign.callbacks.averaging import AverageWeights
from geoalign.data.batch.samplers import CliqueSampler
from geoalign.data.batch.views import PixelLoader
from geoalign.data.datamodule import Connection, PairDataModule
from geoalign.data.readers.spair import SPair71k
from geoalign.losses import DenseLoss, WeightedSum
from geoalign.matching import Matcher
from geoalign.module import CorrespondenceModule
from geoalign.refiner import Refiner


class Tint(Refiner):
    """A refiner that shares nothing with the paper's: a linear layer after running statistics, without a scale."""

    def __init__(self, channels, grid=8, width=4):
        super().__init__()
        self.channels, self.grid, self.width = tuple(channels), grid, width
        self.norm = nn.BatchNorm2d(sum(channels))
        self.mix = nn.Conv2d(sum(channels), width, 1)
        self.frozen = nn.Parameter(torch.ones(width, 1, 1), requires_grad=False)

    def config(self):
        return {"channels": list(self.channels), "grid": self.grid, "width": self.width}

    def forward(self, maps):
        stacked = torch.cat([F.interpolate(m, size=(self.grid, self.grid)) for m in maps], dim=1)
        return F.normalize(self.mix(self.norm(stacked)) * self.frozen, dim=1)


def test_any_refiner_is_trained_averaged_kept_published_and_loaded(tmp_path):
    """One step with the average of weights, its checkpoint, a folder, and back; nothing knows the paper's names."""
    torch.manual_seed(0)
    own = Tint((6, 10))
    loss = WeightedSum({"plain": 1.0}, dense=DenseLoss(Matcher(radius=2)))
    module = CorrespondenceModule(own, Matcher(radius=2), TinyBackbone(), loss, partial(torch.optim.SGD, lr=0.1))
    before = {name: value.clone() for name, value in own.state_dict().items()}
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path, limit_val_batches=0, enable_checkpointing=False, use_distributed_sampler=False,
        callbacks=[AverageWeights(decay=0.5)],
    )  # fmt: skip
    write_tree(tmp_path / "spair")
    source = SPair71k(tmp_path / "spair")
    data = PairDataModule(source, {}, {}, lambda pairs: CliqueSampler(pairs, size=3, batches=3))
    data.connect(Connection(PixelLoader((64,)), ("plain",)))
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert {name for name, value in own.state_dict().items() if not torch.equal(value, before[name])} >= set(
        own.trained()
    )
    assert own.trained() == ("norm.weight", "norm.bias", "mix.weight", "mix.bias")
    with pytest.raises(ValueError, match=r"Tint', which is not called"):
        publish.load(tmp_path / "last.ckpt")
    kept = publish.load(tmp_path / "last.ckpt", kind=Tint)
    publish.save(kept, tmp_path / "shared", backbone="a tiny one")
    back = publish.load(tmp_path / "shared", kind=Tint)
    maps = (torch.randn(2, 6, 8, 8), torch.randn(2, 10, 4, 4))
    assert torch.equal(back(maps), kept(maps))
    assert "| width | 4 |" in (tmp_path / "shared/README.md").read_text()
