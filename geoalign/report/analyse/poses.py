"""Pose prediction by instance matching distance: the nearest template's pose (the paper's pose table)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geoalign.backbone.base import Backbone
from geoalign.bank import PlainBank
from geoalign.data.batch.views import PixelLoader, ViewRef
from geoalign.data.records import DataError
from geoalign.draw.bars import grouped_bars
from geoalign.geometry import content_cells
from geoalign.matching.pose import pose_distances
from geoalign.metrics.robustness import POSES, PosePrediction
from geoalign.passes.foreground import foreground_masks
from geoalign.refiner.tail import frozen_features
from geoalign.report.analyse.labelled import Labelled, check_templates
from geoalign.report.analyse.output import save
from geoalign.report.published import load_facts
from geoalign.report.table import Cell, Table

Kind = Literal["masked", "mutual"]
KINDS: tuple[Kind, ...] = ("masked", "mutual")
QUESTIONS = ("left_right", "front_back", "either", "four_way")
BATCH = 4  # images through the backbone at once


def pose_prediction(
    backbone: Backbone,
    name: str,
    templates: Sequence[Labelled],
    images: Sequence[Labelled] | None,
    where: Path,
    out: Path,
) -> tuple[Table, list[Path]]:
    """Table beside published accuracies, and the csv and picture written into ``out``.

    Without ``images`` every template is predicted by the templates of the other groups (leave one out).
    """
    check_templates(templates, where)
    asked = list(templates if images is None else images)
    allowed = allow(templates, images)
    bank, masks = descriptors(backbone, [*templates, *asked])
    rows: list[list[Cell]] = []
    accuracy: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        distance = template_distances(bank, masks, allowed, kind)
        least = least_by_pose(distance, torch.tensor([t.pose for t in templates]))
        metric = PosePrediction()
        metric.update(least, torch.tensor([one.pose for one in asked]))
        accuracy[f"{name}, {kind}"] = {question: 100 * v for (_, question), v in metric.compute().items()}
        rows += [_row(kind, one, values) for one, values in zip(asked, least.tolist(), strict=True)]
    header = ["distance", "image", "group", "pose", *(f"imd_{p}" for p in POSES), "predicted"]
    accuracy |= {f"{method} (published)": values for method, values in load_facts()["pose_prediction"].items()}
    series = {name: [values.get(question) for question in QUESTIONS] for name, values in accuracy.items()}
    names = ["left/right", "front/back", "either", "four-way"]
    plot = partial(grouped_bars, names=names, series=series, label="accuracy, %")
    title = f"{name}: {len(asked)} images; published: 100 SPair-71k cats"
    paths = save(out / "pose-prediction", header, rows, [[plot]], [title], (8.5, 4.0))
    return _table(series, len(asked), images is None), paths


def descriptors(
    backbone: Backbone, images: Sequence[Labelled]
) -> tuple[Float[Tensor, "u c h w"], Bool[Tensor, "u h w"]]:
    """Zero-shot descriptors and estimated foreground of every image."""
    refiner = frozen_features(backbone.channels, backbone.grid, backbone.groups, backbone.rest)
    load = PixelLoader(backbone.image_sizes)
    parts = []
    for start in range(0, len(images), BATCH):
        views = load([ViewRef(one.record) for one in images[start : start + BATCH]])
        parts.append(refiner(backbone(views["images"])))
    bank = torch.cat(parts)
    content = torch.stack([content_cells(one.record.size, backbone.grid) for one in images])
    return bank, foreground_masks(bank, content)


def template_distances(
    bank: Float[Tensor, "u c h w"], masks: Bool[Tensor, "u h w"], allowed: Bool[Tensor, "i t"], kind: Kind
) -> Float[Tensor, "i t"]:
    """IMD of every image to its allowed templates, else ∞; templates come first in the bank.

    The distance is that of docs/protocol.md#pose-alignment.
    """
    image, template = allowed.nonzero(as_tuple=True)
    distance = bank.new_full(allowed.shape, torch.inf)
    distance[allowed] = pose_distances(PlainBank(bank), image[:, None] + allowed.shape[1], template, masks, kind)[:, 0]
    return distance


def least_by_pose(distance: Float[Tensor, "i t"], pose: Int[Tensor, "t"]) -> Float[Tensor, "i 4"]:
    """Least distance of every image to the templates of each pose."""
    return torch.stack([distance[:, pose == p].amin(1) for p in range(len(POSES))], dim=1)


def allow(templates: Sequence[Labelled], images: Sequence[Labelled] | None) -> Bool[Tensor, "i t"]:
    """Which templates may predict an image: those of other groups, or all for given images.

    Raises:
        DataError: leaving an image's own group out leaves a pose without a template.
    """
    asked = templates if images is None else images
    allowed = torch.tensor([[images is not None or t.group != one.group for t in templates] for one in asked])
    pose = torch.tensor([t.pose for t in templates])
    for p, name in enumerate(POSES):
        if not allowed[:, pose == p].any(1).all():
            raise DataError(f"leaving one group out leaves no template for {name}; give two groups, or --images")
    return allowed


def _row(kind: str, one: Labelled, least: Sequence[float]) -> list[Cell]:
    predicted = POSES[min(range(len(POSES)), key=least.__getitem__)]
    return [kind, one.record.image_id, one.group, POSES[one.pose], *least, predicted]


def _table(series: Mapping[str, Sequence[float | None]], asked: int, left_out: bool) -> Table:
    how = "each predicted by the templates of the other groups" if left_out else "predicted by all templates"
    notes = [f"ours: {asked} images, {how}; published: 100 SPair-71k cats, so not like for like"]
    notes += ["masked: inside the foreground estimated from features; mutual: over mutual nearest neighbours"]
    header = ["method", *(question.replace("_", "/") for question in QUESTIONS)]
    return Table("Pose prediction, accuracy in %", header, [[name, *v] for name, v in series.items()], notes)
