"""Test-time adaptive pose alignment during validation and test (paper §4.1, PROTOCOL §6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from geoalign.geometry import Pose
from geoalign.keys import pose_key
from geoalign.matching.pose import Distance, choose_pose, pose_distances, transfer_posed
from geoalign.metrics import PCK
from geoalign.module import CorrespondenceModule, Evaluated, Prediction, update_pck
from geoalign.types import PairBatch

Kind = Literal["auto", "masked", "mutual"]
Masks = Literal["dataset", "foreground", "sam", "none"]


class PoseAlignment(Callback):
    """Adds ``aligned`` predictions to every evaluated batch and logs them beside the plain ones.

    Args:
        poses: tried on the source, upright first: any of upright, flip, rot<degrees>, flip+rot<degrees>
        distance: masked: inside segmentations | mutual: over mutual nearest neighbours | auto: masked where there
            are masks
        grid: null: the feature grid | 64: the release's up-sampling
        mask_side: px at which segmentations are kept
        masks: of images the dataset has none for: dataset: nothing | foreground: from features | sam: from the box;
            none: no masks at all
        sam: weights for masks=sam: a hub id or a folder
    """

    def __init__(
        self,
        poses: Sequence[str] = ("upright", "flip"),
        distance: Kind = "auto",
        grid: int | None = None,
        mask_side: int = 240,
        masks: Masks = "dataset",
        sam: str = "facebook/sam-vit-base",
    ) -> None:
        if distance not in ("auto", "masked", "mutual"):
            raise ValueError(f"alignment.distance is auto, masked or mutual, got {distance!r}")
        self.poses = tuple(Pose.parse(p) for p in poses)
        if len(self.poses) < 2 or self.poses[0] != Pose() or len(set(self.poses)) != len(self.poses):
            raise ValueError(f"alignment.poses is upright and at least one other, without repeats; got {list(poses)}")
        if masks not in ("dataset", "foreground", "sam", "none") or (masks == "none" and distance == "masked"):
            raise ValueError(
                f"alignment.masks is dataset, foreground, sam or (unless distance=masked) none, got {masks!r}"
            )
        self.distance, self.grid, self.masks, self.sam = distance, grid, masks, sam
        self.mask_side = None if distance == "mutual" or masks == "none" else mask_side
        self.metrics: dict[str, PCK] = {}
        self.chosen: dict[str, Tensor] = {}

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.metrics, self.chosen = {}, {}

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.metrics, self.chosen = {}, {}

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: PairBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._align(pl_module, outputs, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: PairBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._align(pl_module, outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer, pl_module, "test")

    @torch.no_grad()
    def _align(self, module: LightningModule, outputs: Evaluated, batch: PairBatch) -> None:
        assert isinstance(module, CorrespondenceModule)
        prediction = self.predict(module, outputs["bank"], batch)
        outputs["predictions"]["aligned"] = prediction
        name = outputs["dataset"].name
        if name not in self.metrics:
            self.metrics[name] = module.new_metric(outputs["dataset"])
            self.chosen[name] = torch.zeros(len(self.poses) + 2, dtype=torch.long, device=module.device)
        update_pck(self.metrics[name], prediction.matches, batch)
        self.chosen[name] += torch.cat(
            [prediction.pose.bincount(minlength=len(self.poses)), self._right(prediction.pose, batch)]
        )

    def predict(self, module: CorrespondenceModule, bank: Tensor, batch: PairBatch) -> Prediction:
        """Matches of the batch's rows under the pose of least IMD."""
        choice = choose_pose(self._distances(bank, batch))
        matches = transfer_posed(
            bank,
            batch["src_poses"],
            batch["trg"],
            batch["src_xy_px"],
            batch["src_visible"],
            batch["partner"],
            choice,
            self.poses,
            module.matcher,
        )
        return Prediction(matches, choice)

    def _distances(self, bank: Tensor, batch: PairBatch) -> Tensor:
        """IMD ``(b p)``; what ``auto`` takes is decided row by row, so that batching cannot change it."""
        poses, trg, masks = batch["src_poses"], batch["trg"], batch["views"].get("masks")
        if self.distance == "mutual" or masks is None:
            return pose_distances(
                bank, poses, trg, masks, "masked" if self.distance == "masked" else "mutual", self.grid
            )
        there = masks.flatten(1).any(1)
        masked = (there[batch["src"]] & there[trg]) | (self.distance == "masked")
        distance = bank.new_empty(poses.shape)
        kinds: tuple[tuple[Tensor, Distance], ...] = ((masked, "masked"), (~masked, "mutual"))
        for rows, kind in kinds:
            if rows.any():
                distance[rows] = pose_distances(bank, poses[rows], trg[rows], masks, kind, self.grid).to(distance.dtype)
        return distance

    def _right(self, choice: Tensor, batch: PairBatch) -> Tensor:
        """How many choices between upright and flip are decided by the azimuths, and how many were right."""
        src, trg = batch["azimuth"].unbind(-1)
        upright, flipped = _turn(src, trg), _turn((-src) % 8, trg)
        known = (src >= 0) & (trg >= 0) & (upright != flipped)
        wants_flip = flipped < upright
        did_flip = torch.tensor([p.flip for p in self.poses], device=choice.device)[choice]
        straight = torch.tensor([p.degrees == 0 for p in self.poses], device=choice.device)[choice]
        return torch.stack([known.sum(), (known & straight & (wants_flip == did_flip)).sum()])

    def _log(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Metrics and pose statistics; every rank takes part for every dataset, also one without a batch."""
        assert isinstance(module, CorrespondenceModule)
        for info in module.datasets[stage]:
            metric = self.metrics.get(info.name, module.new_metric(info))
            counts = self.chosen.get(
                info.name, torch.zeros(len(self.poses) + 2, dtype=torch.long, device=module.device)
            )
            if trainer.world_size > 1:
                counts = trainer.strategy.reduce(counts, reduce_op="sum")
            module.log_dict(metric.compute().named(stage, info.name, method="aligned"))
            module.log_dict(self._shares(stage, info.name, counts))

    def _shares(self, stage: str, dataset: str, counts: Tensor) -> dict[str, float]:
        *chosen, known, right = counts.tolist()
        shares = {
            pose_key(stage, dataset, f"chosen_{pose}"): n / max(1, sum(chosen))
            for pose, n in zip(self.poses, chosen, strict=True)
        }
        if known:
            shares[pose_key(stage, dataset, "right_where_azimuth_decides")] = right / known
        return shares


def _turn(a: Tensor, b: Tensor) -> Tensor:
    """Steps of 45 degrees between two azimuths."""
    steps = (a - b).abs()
    return torch.minimum(steps, 8 - steps)
