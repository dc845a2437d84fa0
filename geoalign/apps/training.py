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
from geoalign.options.make import make_backbone
from geoalign.refiner import Aggregation, Blend, Tail
from geoalign.refiner.base import Refiner

CUT = "backbone.cut=-4"


@dataclass(frozen=True)
class Plan:
    """How long and how fast; the rest is ``recipe/livestock``'s."""

    steps: int = 120
    lr: float = 1.5e-3
    points: int = 24
    seed: int = 0
    progress: bool = True


def cut_backbone(name: str) -> tuple[Backbone, list[str]]:
    """The backbone with its last four blocks left to a tail where it takes a cut, else the whole; and its options."""
    try:
        return make_backbone(name, [CUT]), [CUT]
    except ValueError:  # it takes no cut; or it is none, which is said by the next line
        return make_backbone(name), []


def learner(backbone: Backbone, seed: int = 0) -> Refiner:
    """The small post-processor beside the maps themselves, of the last blocks tuned by LoRA where there is a cut."""
    torch.manual_seed(seed)
    channels, groups = backbone.whole
    small = Aggregation(channels, backbone.grid, width=256, dropout=0.5, dropout_at="native", centre=True)
    blend = Blend(small, weight=0.7, groups=groups)
    if backbone.rest is None:
        return blend
    tail = Tail(blend, backbone.rest.network, tune="lora", rate=1.0)
    tail.start(backbone.rest)
    return tail


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
