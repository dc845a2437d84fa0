"""When pose alignment runs in validation, and which poses it chose (paper §4.1, docs/protocol.md#pose-alignment)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from lightning import Callback, Trainer
from torch import Tensor

from geoalign.geometry import Pose
from geoalign.keys import pose_key
from geoalign.module import CorrespondenceModule
from geoalign.types import Evaluated, PairBatch


class PoseAlignment(Callback):
    """Lets methods that try several poses take part in every ``every``-th validation, and logs their choices.

    Does nothing where the module holds no such method. In tests they always take part.

    Args:
        every: validations from one with pose alignment to the next; alignment costs a refiner pass per pose.
    """

    def __init__(self, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"callbacks.pose_alignment.every is at least 1 validation, got {every}")
        self.every, self._validations = every, 0
        self.counts: dict[tuple[str, str], Tensor] = {}

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: CorrespondenceModule) -> None:  # type: ignore[override]
        self.counts = {}
        left_out = self._validations % self.every != 0
        pl_module.active = tuple(m for m in pl_module.methods if not left_out or len(m.poses) == 1)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: CorrespondenceModule) -> None:  # type: ignore[override]
        self._log(trainer, pl_module, "val")
        self._validations += not trainer.sanity_checking

    def on_validation_end(self, trainer: Trainer, pl_module: CorrespondenceModule) -> None:  # type: ignore[override]
        pl_module.active = pl_module.methods

    def on_test_epoch_start(self, trainer: Trainer, pl_module: CorrespondenceModule) -> None:  # type: ignore[override]
        self.counts = {}

    def on_test_epoch_end(self, trainer: Trainer, pl_module: CorrespondenceModule) -> None:  # type: ignore[override]
        self._log(trainer, pl_module, "test")

    def on_validation_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: CorrespondenceModule,
        outputs: Any,
        batch: PairBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._count(pl_module, outputs, batch)

    def on_test_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: CorrespondenceModule,
        outputs: Any,
        batch: PairBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._count(pl_module, outputs, batch)

    def state_dict(self) -> dict[str, Any]:
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._validations = state_dict["validations"]

    def _count(self, module: CorrespondenceModule, outputs: Evaluated, batch: PairBatch) -> None:
        for method in module.active:
            if len(method.poses) > 1:
                choice = outputs["predictions"][method.name].pose
                key = outputs["dataset"].name, method.name
                counts = torch.cat([choice.bincount(minlength=len(method.poses)), right(choice, method.poses, batch)])
                self.counts[key] = self.counts.get(key, 0) + counts

    def _log(self, trainer: Trainer, module: CorrespondenceModule, stage: str) -> None:
        """Shares of the choices; every rank takes part for every dataset, also one without a batch."""
        for info in module.datasets[stage]:
            for method in (m for m in module.active if len(m.poses) > 1):
                none = torch.zeros(len(method.poses) + 2, dtype=torch.long, device=module.device)
                counts = self.counts.get((info.name, method.name), none)
                if trainer.world_size > 1:
                    counts = trainer.strategy.reduce(counts, reduce_op="sum")
                module.log_dict(_shares(stage, info.name, method.poses, counts))


def right(choice: Int[Tensor, "b"], poses: tuple[Pose, ...], batch: PairBatch) -> Int[Tensor, "2"]:
    """How many choices between upright and flip are decided by the azimuths, and how many were right."""
    src, trg = batch["azimuth"].unbind(-1)
    upright, flipped = _turn(src, trg), _turn((-src) % 8, trg)
    decided = (src >= 0) & (trg >= 0) & (upright != flipped)
    wants_flip = flipped < upright
    did_flip = torch.tensor([p.flip for p in poses], device=choice.device)[choice]
    straight = torch.tensor([p.degrees == 0 for p in poses], device=choice.device)[choice]
    return torch.stack([decided.sum(), (decided & straight & (wants_flip == did_flip)).sum()])


def _shares(stage: str, dataset: str, poses: tuple[Pose, ...], counts: Tensor) -> dict[str, float]:
    *chosen, decided, correct = counts.tolist()
    shares = {
        pose_key(stage, dataset, f"chosen_{pose}"): n / max(1, sum(chosen))
        for pose, n in zip(poses, chosen, strict=True)
    }
    if decided:
        shares[pose_key(stage, dataset, "right_where_azimuth_decides")] = correct / decided
    return shares


def _turn(a: Tensor, b: Tensor) -> Tensor:
    """Steps of 45 degrees between two azimuths."""
    steps = (a - b).abs()
    return torch.minimum(steps, 8 - steps)
