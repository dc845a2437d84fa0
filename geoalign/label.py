"""Pseudo-labels of a training set's photographs, without their keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from geoalign.backbone.base import Backbone
from geoalign.backbone.store import FeatureStore
from geoalign.build import make_data, pass_trainer, quieten
from geoalign.data.batch.views import ViewRef
from geoalign.data.readers.pseudo import PseudoFile, write_pseudo
from geoalign.data.records import DataError, ImageRecord
from geoalign.files import check_output
from geoalign.geometry import FLIP, UPRIGHT
from geoalign.options.entry import plain
from geoalign.options.jobs import discard_run
from geoalign.options.make import make
from geoalign.passes.features import StoreLoader, fill
from geoalign.pseudo.label import Labelled, Labeller, facts, table
from geoalign.pseudo.photographs import placed, subject_of
from geoalign.pseudo.subjects import Subject
from geoalign.refiner.base import Refiner
from geoalign.refiner.checkpoint import find_checkpoint, make_refiner, read_weights
from geoalign.refiner.tail import frozen_features, start


def run(cfg: DictConfig) -> None:
    """Extract what is missing, match, filter, and write one file."""
    quieten()
    out = check_output(Path(cfg.out), force=cfg.overwrite)
    store, backbone = make(cfg.store), make(cfg.backbone)
    if store is None:
        raise ValueError("label reads a feature store, got store=off; set store=disk")
    source = make_data(cfg.data, ["train"]).train_source
    assert source is not None
    records = list({record.image_id: record for record in source.images}.values())
    refiner = descriptors_of(backbone, cfg.checkpoint, cfg.centre)
    views = [ViewRef(record, pose) for record in records for pose in (UPRIGHT, FLIP)]
    fill(store, backbone, views, lambda: pass_trainer(cfg), workers=cfg.data.workers if "workers" in cfg.data else 0)
    records, subjects = find_subjects(store, backbone, refiner, records, cfg.boxes)
    labeller: Labeller = make(cfg.labeller)
    found = replace(labeller, filters=placed(labeller.filters, records)).kinds(records, subjects)
    if not found.sets:
        raise DataError.at(out, "labels", "a set of photographs with matches that agree", "none", remedy(found))
    root = Path(getattr(source, "root", "."))
    protocol = protocol_of(cfg, backbone, source.fingerprint())
    write_pseudo(out, PseudoFile(table(found.sets, records), facts(records, root), protocol))
    discard_run()
    print(f"{out}: {said(found)}")


def descriptors_of(backbone: Backbone, checkpoint: str | None, centre: bool = True) -> Refiner:
    """What labels are made with: the frozen features, or a refiner that was trained before."""
    if checkpoint is None:
        return frozen_features(backbone.channels, backbone.grid, backbone.groups, backbone.rest, centre)
    path = find_checkpoint(checkpoint)
    refiner = make_refiner(read_weights(path), path, grid=backbone.grid)
    start(refiner, backbone.rest)
    return refiner.eval()


@torch.no_grad()
def find_subjects(
    store: FeatureStore, backbone: Backbone, refiner: Refiner, records: Sequence[ImageRecord], boxes: bool
) -> tuple[list[ImageRecord], list[Subject]]:
    """The subject of every photograph where one is found, photograph by photograph; the others are left out."""
    loader, kept, subjects = StoreLoader(store, backbone.fingerprint), list[ImageRecord](), list[Subject]()
    for record in records:
        maps = tuple(loader([ViewRef(record, pose) for pose in (UPRIGHT, FLIP)])["maps"])
        subject = subject_of(record, refiner(maps), boxes)
        if subject is not None:
            kept.append(record)
            subjects.append(subject)
    return kept, subjects


def protocol_of(cfg: DictConfig, backbone: Backbone, data: str) -> dict[str, Any]:
    """All that the labels depend on, as plain data."""
    config = plain(cfg)
    kept = ("labeller", "boxes", "centre", "checkpoint")
    return {**{key: config[key] for key in kept}, "backbone": backbone.fingerprint, "data": data}


def said(found: Labelled) -> str:
    """What was found, in one line."""
    points = [one.points for one in found.sets]
    less = sum(found.left_out.values())
    return (
        f"{len(points)} sets of photographs, {sum(points) / len(points):.1f} points each; {less} sets had too few; "
        f"{int(found.facing.mirrored.sum())} of {len(found.facing.mirrored)} photographs are mirrored, "
        f"to which {100 * found.facing.agreement.mean():.0f} % of what was compared agrees"
    )


def remedy(found: Labelled) -> str:
    """What to do where nothing agrees."""
    return (
        f"{sum(found.left_out.values())} sets were tried; give more photographs of one kind, or loosen "
        "labeller.filters and labeller.fewest"
    )
