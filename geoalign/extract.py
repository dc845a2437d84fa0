"""Fill the feature store on any number of ranks, or look after it."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from geoalign.backbone.store import FeatureStore, StoreError
from geoalign.build import make_data, pass_trainer, quieten
from geoalign.data.datamodule import PairDataModule
from geoalign.geometry import UPRIGHT, Pose
from geoalign.options.jobs import discard_run
from geoalign.options.make import make
from geoalign.passes.features import fill, stores_under
from geoalign.passes.masks import estimate_masks

STAGES = ("train", "val", "test")


def run(cfg: DictConfig) -> None:
    """Extract what is missing; with ``verify`` or ``repair`` only check what is there."""
    quieten()
    store = make(cfg.store)
    if store is None:
        raise ValueError("extract fills a feature store, got store=off; set store=disk")
    if cfg.verify or cfg.repair:
        check(store.root, cfg.repair)
        discard_run()
    else:
        extract(cfg, store)


def extract(cfg: DictConfig, store: FeatureStore) -> None:
    """Views of every image of the stages under every pose, then masks where they are asked for."""
    poses = list(dict.fromkeys(Pose.parse(text) for text in cfg.poses))
    if unknown := [stage for stage in cfg.stages if stage not in STAGES]:
        raise ValueError(f"stages are of {', '.join(STAGES)}, got {unknown[0]!r}")
    if cfg.masks not in ("dataset", "foreground", "sam"):
        raise ValueError(f"masks is dataset, foreground or sam, got {cfg.masks!r}")
    if cfg.masks == "foreground" and UPRIGHT not in poses:
        raise ValueError("masks=foreground reads upright features; add upright to poses")
    datamodule: PairDataModule = make_data(cfg.data, cfg.stages)
    backbone = make(cfg.backbone)
    upright = datamodule.views(cfg.stages, ("plain",), ())
    views = [ref._replace(pose=pose) for ref in upright for pose in poses]
    made = fill(store, backbone, views, lambda: pass_trainer(cfg), cfg.batch, cfg.workers)
    print(f"{made} views extracted; {store.folder} holds {len(store)}")
    if cfg.masks != "dataset":
        images = [ref.image for ref in upright]
        saved = estimate_masks(
            cfg.masks, store, backbone, images, lambda: pass_trainer(cfg), cfg.sam, cfg.batch, cfg.workers
        )
        print(f"{len(list(saved.folder.glob('*.png')))} estimated masks in {saved.folder}")


def check(root: Path, repair: bool) -> None:
    """Read every view of every store under ``root``; StoreError names what is damaged, unless it is repaired."""
    damaged: list[str] = []
    stores = list(stores_under(root))
    for store in stores:
        bad = store.repair() if repair else store.verify()
        state = f"{len(bad)} damaged views" + (" deleted" if repair else f": {', '.join(bad)}") if bad else "whole"
        print(f"{store.folder}: {len(store)} views, {state}")
        damaged += bad
    if not stores:
        print(f"no feature stores in {root}")
    if damaged and not repair:
        raise StoreError(f"{len(damaged)} damaged views in {root}; set repair=true, then extract again")
