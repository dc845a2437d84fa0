"""A short training from a file of pseudo-labels and maps in memory: what ``train.py`` does, without its folder."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import lightning
import torch
from lightning.pytorch.callbacks import TQDMProgressBar

from geoalign.apps.photographs import MapsLoader, Photograph
from geoalign.backbone.base import Backbone
from geoalign.build import quieten
from geoalign.data.batch.samplers import CliqueSampler
from geoalign.data.datamodule import Connection, PairDataModule
from geoalign.data.readers.pseudo import PseudoLabels
from geoalign.losses import DenseLoss, SparseLoss, WeightedSum
from geoalign.matching import Matcher
from geoalign.module import CorrespondenceModule
from geoalign.refiner import Aggregation, Blend
from geoalign.refiner.base import Refiner


@dataclass(frozen=True)
class Plan:
    """How long and how fast; the rest is ``recipe/livestock``'s."""

    steps: int = 120
    lr: float = 1.5e-3
    points: int = 24
    seed: int = 0
    progress: bool = True


def blend(backbone: Backbone, seed: int = 0) -> Refiner:
    """Frozen features beside refined ones, as ``refiner=blend`` makes it."""
    torch.manual_seed(seed)
    sizes = list(backbone.channels), backbone.grid
    small = Aggregation(*sizes, width=256, dropout=0.5, dropout_at="native", centre=True)
    return Blend(small, weight=0.7, groups=[list(group) for group in backbone.groups])


def fit(refiner: Refiner, labels: Path, photographs: Sequence[Photograph], plan: Plan, device: str) -> Refiner:
    """Train on the sets of ``labels``; the refiner in eval mode, on the CPU."""
    quieten()
    lightning.seed_everything(plan.seed, workers=True, verbose=False)
    source = PseudoLabels(labels, ".", points=plan.points, seed=plan.seed, require_images=False)
    sampler = functools.partial(CliqueSampler, size=4, batches=plan.steps, seed=plan.seed)
    data = PairDataModule(train=source, sampler=sampler, seed=plan.seed)
    kinds = {"plain": 1.0, "double": 1.0}
    loss = WeightedSum(kinds, sparse=SparseLoss(), dense=DenseLoss(Matcher(), label_noise=0.0))
    data.connect(Connection(MapsLoader(photographs), kinds=tuple(kinds)))
    module = CorrespondenceModule(
        refiner, Matcher(radius=5), loss=loss,
        optimizer=functools.partial(torch.optim.AdamW, lr=plan.lr, weight_decay=1e-3),
        scheduler=functools.partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=plan.lr, pct_start=0.3),
    )  # fmt: skip
    with TemporaryDirectory() as room:
        trainer = lightning.Trainer(
            accelerator=device.split(":")[0], devices=1, max_epochs=1, logger=False,
            enable_checkpointing=False, enable_model_summary=False, default_root_dir=room,
            enable_progress_bar=plan.progress, callbacks=[TQDMProgressBar()] if plan.progress else [],
            limit_val_batches=0, num_sanity_val_steps=0,
        )  # fmt: skip
        trainer.fit(module, datamodule=data)
    return refiner.cpu().eval()
