"""From a composed config to parts, checked against each other."""

from __future__ import annotations

import inspect
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import lightning
import torch
from lightning import Callback, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from geoalign.backbone.base import Backbone
from geoalign.backbone.store import FeatureStore
from geoalign.data.batch.collate import Looks
from geoalign.data.batch.masks import MaskLoader, dataset_mask
from geoalign.data.batch.views import PixelLoader, ViewLoader
from geoalign.data.datamodule import Connection, PairDataModule
from geoalign.matching import Method, Plain, Twice
from geoalign.module import CorrespondenceModule
from geoalign.options.jobs import output_dir
from geoalign.options.make import make
from geoalign.passes.features import FramesBeside, StoreLoader, check_preload, fill
from geoalign.passes.masks import Estimated, estimate_masks
from geoalign.refiner.base import Refiner
from geoalign.refiner.checkpoint import load_weights
from geoalign.refiner.tail import frozen_features, start
from geoalign.types import DatasetInfo


class Parts(NamedTuple):
    """Everything a run is made of."""

    backbone: Backbone
    store: FeatureStore | None
    datamodule: PairDataModule
    module: CorrespondenceModule
    look: Twice | None


def build(cfg: DictConfig, stages: Sequence[str], weights: Path | None = None) -> Parts:
    """All parts, checked against each other; fills the feature store with what ``stages`` will read.

    ``weights`` are the refiner's; what does not fit is refused before a feature is extracted.
    """
    quieten()
    lightning.seed_everything(cfg.seed, workers=True, verbose=False)
    datamodule, methods = make_data(cfg.data, stages), make_methods(cfg.alignment)
    check_mirror_tables(datamodule, methods)
    check_live(datamodule, cfg.store)
    loss = make(cfg.get("loss"))
    if loss is not None and "train" in stages:
        loss.check_steps(most_steps(cfg.trainer, datamodule))
    backbone, store = make(cfg.backbone), make(cfg.store)
    refiner = make_refiner(cfg.refiner, backbone, cfg.get("head"))
    if weights is not None and refiner.trainable:
        load_weights(refiner, weights)
    module = CorrespondenceModule(
        refiner=refiner,
        matcher=make(cfg.matcher),
        backbone=backbone if store is None else None,
        loss=loss,
        optimizer=make(cfg.get("optimizer")),
        scheduler=make(cfg.get("scheduler")),
        alphas=cfg.alphas,
        strict=cfg.strict,
        methods=methods,
    )
    module.describe({"val": describe(datamodule, "val"), "test": describe(datamodule, "test")})
    needs_px = module.refiner.needs_px
    loader: ViewLoader = PixelLoader(sorted({*backbone.image_sizes, *needs_px}))
    kinds = tuple(loss.kinds) if loss is not None else ("plain",)
    if store is not None:
        views = datamodule.views(stages, kinds, module.poses)
        check_preload(store, datamodule.workers)
        fill(store, backbone, views, lambda: pass_trainer(cfg), workers=datamodule.workers)
        loader = StoreLoader(store, backbone.fingerprint)
        if store.preload is not None:
            loader.preload(views, pass_trainer(cfg).strategy.root_device)
        if needs_px:
            loader = FramesBeside(loader, PixelLoader(needs_px))
    sides = [method.mask_side for method in methods if method.mask_side is not None]
    masks = make_masks(cfg, methods, store, backbone, datamodule, stages)
    most = max(sides, default=None)
    wanted = loss.mask_side if loss is not None else None
    datamodule.connect(Connection(loader, kinds, module.poses, most, masks=masks, train_mask_side=wanted))
    compile_refiner(module, cfg.get("compile"))
    return Parts(backbone, store, datamodule, module, make(cfg.get("look")))


def most_steps(trainer: DictConfig, datamodule: PairDataModule) -> int | None:
    """Optimiser steps that training has at most (several processes share them); None where it has no end.

    Known before anything is computed; the module asks the trainer itself before the first step.
    """
    if datamodule.sampler is None or trainer.fast_dev_run or trainer.max_epochs in (None, -1):
        return None
    return math.ceil(len(datamodule.sampler) / trainer.accumulate_grad_batches) * int(trainer.max_epochs)


def make_methods(alignment: DictConfig | None) -> tuple[Method, ...]:
    """The methods of prediction that a run evaluates: plain, and pose alignment where it is on."""
    aligned = make(alignment)
    return (Plain(),) if aligned is None else (Plain(), aligned)


def quieten() -> None:
    """Silence what Lightning says about hardware it did not find, and what is on purpose here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*predict returned None.*",
        ".*module\\(s\\) in eval mode at the start of training.*",  # frozen means frozen
        ".*treespec.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*your dataloader is not resumable.*",  # ours is: it asks the trainer where the epoch stands
        ".*sync_dist=True.*",  # what is logged was summed over ranks already: reducing it again would only cost
    ):
        warnings.filterwarnings("ignore", message)


def make_data(config: DictConfig, stages: Sequence[str]) -> PairDataModule:
    """The datamodule with the datasets of ``stages``; keys that only other keys refer to stay in the config."""
    known = set(inspect.signature(PairDataModule.__init__).parameters) - ({"train", "val", "test"} - set(stages))
    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    return make(OmegaConf.create({k: v for k, v in resolved.items() if k in known or k == "_target_"}))


def check_mirror_tables(datamodule: PairDataModule, methods: Sequence[Method]) -> None:
    """Refuse to align by flips where nothing says which keypoints trade places: left would be taken for right."""
    if not any(pose.flip for method in methods for pose in method.poses):
        return
    for name, source in {**datamodule.val_sources, **datamodule.test_sources}.items():
        if missing := sorted({image.category for image in source.images} - set(source.symmetries)):
            raise ValueError(
                f"{name} has no mirror table for {', '.join(missing[:3])}, so flips would confuse left and right; "
                "set alignment=off, or give the dataset symmetry=<yaml>"
            )


def check_live(datamodule: PairDataModule, store: DictConfig | None) -> None:
    """Refuse to augment pixels whose features come from a store: they would be those of the pixels as they are."""
    if datamodule.train_source is not None and datamodule.augment.on and store and store.get("_target_"):
        raise ValueError(
            "data/augment changes pixels at every step, and the store holds features of pixels as they are; "
            "set store=off, or data/augment=none"
        )


def make_masks(
    cfg: DictConfig,
    methods: Sequence[Method],
    store: FeatureStore | None,
    backbone: Backbone,
    datamodule: PairDataModule,
    stages: Sequence[str],
) -> MaskLoader:
    """Where methods get their masks from; estimates what the datasets of the evaluated stages lack."""
    estimated = [m for m in methods if m.mask_side is not None and m.masks in ("foreground", "sam")]
    if not estimated:
        return dataset_mask
    if store is None:
        raise ValueError(f"alignment.masks={estimated[0].masks} keeps masks beside the features; set store=disk")
    images = [ref.image for ref in datamodule.views([s for s in stages if s != "train"], ("plain",), ())]
    return estimate_masks(
        cast(Estimated, estimated[0].masks),
        store,
        backbone,
        images,
        lambda: pass_trainer(cfg),
        cfg.alignment.sam,
        workers=datamodule.workers,
    )


def make_refiner(config: DictConfig, backbone: Backbone, head: DictConfig | None = None) -> Any:
    """The refiner in its head, sized to the backbone where the config leaves that open; refused if it does not fit.

    A tail starts from what lies behind the backbone's cut.
    """
    refiner = make(config, **_sizes(config, backbone))
    start(refiner, backbone.rest)
    if tuple(refiner.channels) != tuple(backbone.channels):
        want, got = list(refiner.channels), list(backbone.channels)
        raise ValueError(
            f"refiner expects maps of {want} channels, the backbone gives {got}; set refiner.channels={got}"
        )
    around = make(head, _partial_=True)
    return refiner if around is None else around(refiner=refiner)


def _sizes(config: DictConfig, backbone: Backbone) -> dict[str, Any]:
    """What a refiner's config leaves to the backbone; a refiner within a tail is sized to the whole network."""
    channels, groups = backbone.whole
    own: dict[str, Any] = {"channels": channels, "grid": backbone.grid, "groups": groups}
    within: dict[str, Any] = {}
    if "network" in config:
        within = {"refiner": _left_open(config.refiner, own)}
        own |= {"network": backbone.rest and backbone.rest.network, "channels": list(backbone.channels)}
    return _left_open(config, own) | within


def _left_open(config: DictConfig, own: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in own.items() if key in config and config[key] is None}


def compile_refiner(module: CorrespondenceModule, how: bool | str | None) -> None:
    """``torch.compile`` the refiner in place, so that its weights keep their names; ``how`` may name a backend."""
    if not how:
        return
    known = torch.compiler.list_backends(exclude_tags=())
    if how is not True and how not in known:
        raise ValueError(f"compile is true, false or a backend of torch.compile ({', '.join(known)}), got {how!r}")
    if isinstance(how, str):
        module.refiner.compile(backend=how)
    else:
        module.refiner.compile()


def zero_shot(parts: Parts) -> CorrespondenceModule:
    """A module that matches the frozen features themselves with the run's matcher."""
    backbone = parts.backbone
    frozen = frozen_features(backbone.channels, backbone.grid, backbone.groups, backbone.rest)
    return _evaluator(parts.module, frozen, parts.module.methods)


@contextmanager
def second_look(
    cfg: DictConfig, parts: Parts, look: Twice, module: CorrespondenceModule, looks: Mapping[str, Looks]
) -> Iterator[CorrespondenceModule]:
    """A module that looks again at the crops of ``looks`` (by dataset and pair), given by the datamodule meanwhile."""
    whole = parts.datamodule.connected()
    if parts.store is not None:
        refs = {ref.key: ref for name in looks for ref in parts.datamodule.crops(name, looks[name])}
        workers = parts.datamodule.workers
        fill(parts.store, parts.backbone, list(refs.values()), lambda: pass_trainer(cfg), workers=workers)
    parts.datamodule.connect(replace(whole, poses=look.poses, mask_side=None, looks=looks))
    yield _evaluator(module, module.refiner, (look,))
    parts.datamodule.connect(whole)


def _evaluator(like: CorrespondenceModule, refiner: Refiner, methods: Sequence[Method]) -> CorrespondenceModule:
    """A module that only evaluates, with another's matcher, thresholds and datasets."""
    made = CorrespondenceModule(
        refiner, like.matcher, like.backbone, alphas=like.alphas, strict=like.strict, methods=methods
    )
    made.describe(like.datasets)
    return made


def describe(datamodule: PairDataModule, stage: str) -> list[DatasetInfo]:
    """Names and categories of a stage's datasets, in the order of their loaders."""
    sources = datamodule.val_sources if stage == "val" else datamodule.test_sources
    return [DatasetInfo(name, tuple(source.categories)) for name, source in sources.items()]


def make_trainer(cfg: DictConfig, callbacks: Sequence[Callback], logger: Any, **own: Any) -> Trainer:
    """The configured trainer with our callbacks; checkpointing only where a callback asks for it.

    Raises:
        ValueError: settings that Lightning refuses, such as an accelerator that this machine has not.
    """
    try:
        return make(
            cfg.trainer,
            **own,
            callbacks=list(callbacks),
            logger=logger,
            default_root_dir=str(output_dir()),
            enable_checkpointing=any(isinstance(c, lightning.pytorch.callbacks.Checkpoint) for c in callbacks),
        )
    except MisconfigurationException as error:
        got = ", ".join(f"trainer.{key}={cfg.trainer[key]}" for key in ("accelerator", "devices", "max_epochs"))
        raise ValueError(f"{error} Got {got}; trainer=default runs on every machine") from error


def pass_trainer(cfg: DictConfig) -> Trainer:
    """The configured trainer for passes over all views: none left out, and in the backbone's own precision."""
    own = {"fast_dev_run": False, "limit_predict_batches": 1.0, "precision": "32-true"}
    return make_trainer(cfg, progress(cfg), False, **own)


def progress(cfg: DictConfig) -> list[Callback]:
    """The configured progress bar alone, for passes that are not the fit."""
    return [bar for bar in [make(cfg.callbacks.get("progress"))] if bar is not None]


def make_group(configs: Any) -> dict[str, Any]:
    """Every member of a group of named configs."""
    parts = {name: make(config) for name, config in (configs or {}).items()}
    return {name: part for name, part in parts.items() if part is not None}
