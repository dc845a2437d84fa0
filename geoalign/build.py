"""From a composed config to parts: the only importer of hydra below the scripts."""

from __future__ import annotations

import functools
import inspect
import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning import Callback, Trainer
from omegaconf import DictConfig, OmegaConf

from geoalign.backbone.base import Backbone
from geoalign.backbone.store import FeatureStore
from geoalign.callbacks import PoseAlignment
from geoalign.data.datamodule import Connection, PairDataModule
from geoalign.data.views import PixelLoader, ViewLoader
from geoalign.features import StoreLoader, fill
from geoalign.geometry import UPRIGHT
from geoalign.module import CorrespondenceModule, DatasetInfo
from geoalign.refiner import Identity

log = logging.getLogger(__name__)


class Parts(NamedTuple):
    """Everything a run is made of."""

    backbone: Backbone
    store: FeatureStore | None
    datamodule: PairDataModule
    module: CorrespondenceModule
    alignment: PoseAlignment | None


def make(config: Any, **extra: Any) -> Any:
    """Instantiate with plain containers; an empty config gives None. Errors are those of the part itself."""
    if not config or config.get("_target_") is None:
        return None
    try:
        return instantiate(config, _convert_="all", **extra)
    except InstantiationException as error:
        raise error.__cause__ or error from None


def build(cfg: DictConfig, stages: Sequence[str]) -> Parts:
    """All parts, checked against each other; fills the feature store with what ``stages`` will read."""
    quieten()
    lightning.seed_everything(cfg.seed, workers=True, verbose=False)
    datamodule, backbone = make_data(cfg.data), make(cfg.backbone)
    store, alignment, loss = make(cfg.store), make(cfg.alignment), make(cfg.get("loss"))
    module = CorrespondenceModule(
        refiner=make_refiner(cfg.refiner, backbone),
        matcher=make(cfg.matcher),
        backbone=backbone if store is None else None,
        loss=loss,
        optimizer=make(cfg.get("optimizer")),
        scheduler=make(cfg.get("scheduler")),
        alphas=cfg.alphas,
        strict=cfg.strict,
    )
    module.describe({"val": describe(datamodule, "val"), "test": describe(datamodule, "test")})
    loader: ViewLoader = PixelLoader(backbone.image_sizes)
    if store is not None:
        kinds = tuple(loss.kinds) if loss is not None else ("plain",)
        views = datamodule.views(stages, kinds, alignment.poses if alignment else ())
        fill(store, backbone, views, lambda: make_trainer(cfg, progress(cfg), logger=False))
        loader = StoreLoader(store, backbone.fingerprint)
    datamodule.connect(connection(loader, loss, alignment))
    return Parts(backbone, store, datamodule, module, alignment)


def quieten() -> None:
    """Silence what Lightning says about hardware it did not find, and what is on purpose here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*predict returned None.*",
        ".*module\\(s\\) in eval mode at the start of training.*",  # frozen means frozen
        ".*treespec.*",
        ".*Checkpoint directory .* exists and is not empty.*",
    ):
        warnings.filterwarnings("ignore", message)


def make_data(config: DictConfig) -> PairDataModule:
    """The datamodule; keys of the group that only other keys refer to (``root``, ``split``) stay in the config."""
        ".*your dataloader is not resumable.*",  # ours is: it asks the trainer where the epoch stands
    known = inspect.signature(PairDataModule.__init__).parameters
    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    return make(OmegaConf.create({k: v for k, v in resolved.items() if k in known or k == "_target_"}))


def connection(loader: ViewLoader, loss: Any, alignment: PoseAlignment | None) -> Connection:
    """What the datamodule must know of the other parts."""
    kinds = tuple(loss.kinds) if loss is not None else ("plain",)
    if alignment is None:
        return Connection(loader, kinds, (UPRIGHT,))
    return Connection(loader, kinds, alignment.poses, alignment.mask_side)


def make_refiner(config: DictConfig, backbone: Backbone) -> Any:
    """The refiner, sized to the backbone where the config leaves that open; refused where it does not fit."""
    own = {"channels": list(backbone.channels), "grid": backbone.grid, "groups": [list(g) for g in backbone.groups]}
    filled = {k: v for k, v in own.items() if k in config and config[k] is None}
    refiner = make(config, **filled)
    if tuple(refiner.channels) != tuple(backbone.channels):
        want, got = list(refiner.channels), list(backbone.channels)
        raise ValueError(
            f"refiner expects maps of {want} channels, the backbone gives {got}; set refiner.channels={got}"
        )
    return refiner


def zero_shot(parts: Parts, cfg: DictConfig) -> CorrespondenceModule:
    """A module that matches the frozen features themselves with the run's matcher."""
    backbone = parts.backbone
    identity = Identity(backbone.channels, backbone.grid, backbone.groups)
    module = CorrespondenceModule(
        identity, parts.module.matcher, parts.module.backbone, alphas=cfg.alphas, strict=cfg.strict
    )
    module.describe(parts.module.datasets)
    return module


def describe(datamodule: PairDataModule, stage: str) -> list[DatasetInfo]:
    """Names and categories of a stage's datasets, in the order of their loaders."""
    sources = datamodule.val_sources if stage == "val" else datamodule.test_sources
    return [DatasetInfo(name, tuple(source.categories)) for name, source in sources.items()]


def make_trainer(cfg: DictConfig, callbacks: Sequence[Callback], logger: Any) -> Trainer:
    """The configured trainer with our callbacks; checkpointing only where a callback asks for it."""
    return make(
        cfg.trainer,
        callbacks=list(callbacks),
        logger=logger,
        default_root_dir=str(output_dir()),
        enable_checkpointing=any(isinstance(c, lightning.pytorch.callbacks.Checkpoint) for c in callbacks),
    )


def progress(cfg: DictConfig) -> list[Callback]:
    """The configured progress bar alone, for passes that are not the fit."""
    return [bar for bar in [make(cfg.callbacks.get("progress"))] if bar is not None]


def make_group(configs: Any) -> list[Any]:
    """Every member of a group of named configs."""
    return [part for part in (make(config) for config in (configs or {}).values()) if part is not None]


def constant_rate(optimizer: torch.optim.Optimizer, total_steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """A schedule that changes nothing (AP-10K in the paper)."""
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=0)


def output_dir() -> Path:
    """The run's folder."""
    return Path(HydraConfig.get().runtime.output_dir)


def one_line_errors(task: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Users see what was wrong in one line and exit code 1; a run that never started leaves no folder."""

    @functools.wraps(task)
    def wrapped(cfg: DictConfig) -> Any:
        try:
            return task(cfg)
        except (ValueError, OSError, ImportError) as error:
            folder = output_dir()
            if not any((folder / part).exists() for part in ("checkpoints", "results")):
                logging.shutdown()
                shutil.rmtree(folder, ignore_errors=True)
            if str(HydraConfig.get().mode) == "RunMode.MULTIRUN" or OmegaConf.select(cfg, "debug"):
                raise
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            sys.exit(1)

    return wrapped
