"""When pose alignment runs in validation, and which poses it chose (paper §4.1, docs/protocol.md#pose-alignment)."""

from __future__ import annotations

from typing import Any

from lightning import Callback, Trainer

from geoalign.metrics import PoseChoice
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
        self.choices: dict[tuple[str, str], PoseChoice] = {}

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: CorrespondenceModule) -> None:  # type: ignore[override]
        left_out = self._validations % self.every != 0
        pl_module.active = tuple(m for m in pl_module.methods if not left_out or len(m.poses) == 1)
        self._start("val", pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: CorrespondenceModule) -> None:  # type: ignore[override]
        self._log(pl_module, "val")
        self._validations += not trainer.sanity_checking

    def on_validation_end(self, trainer: Trainer, pl_module: CorrespondenceModule) -> None:  # type: ignore[override]
        pl_module.active = pl_module.methods

    def on_test_epoch_start(self, trainer: Trainer, pl_module: CorrespondenceModule) -> None:  # type: ignore[override]
        self._start("test", pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: CorrespondenceModule) -> None:  # type: ignore[override]
        self._log(pl_module, "test")

    def on_validation_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: CorrespondenceModule,
        outputs: Any,
        batch: PairBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._count(outputs, batch)

    def on_test_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: CorrespondenceModule,
        outputs: Any,
        batch: PairBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._count(outputs, batch)

    def state_dict(self) -> dict[str, Any]:
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._validations = state_dict["validations"]

    def _start(self, stage: str, module: CorrespondenceModule) -> None:
        self.choices = {
            (info.name, method.name): PoseChoice(method.poses).to(module.device)
            for info in module.datasets[stage]
            for method in module.active
            if len(method.poses) > 1
        }

    def _count(self, outputs: Evaluated, batch: PairBatch) -> None:
        for (dataset, method), metric in self.choices.items():
            if dataset == outputs["dataset"].name:
                metric.update(outputs["predictions"][method].pose, batch["azimuth"])

    def _log(self, module: CorrespondenceModule, stage: str) -> None:
        """Shares of the choices; every rank takes part for every dataset, also one without a batch."""
        for (dataset, _), metric in self.choices.items():
            module.log_dict(metric.compute().named(stage, dataset), sync_dist=False, rank_zero_only=False)
