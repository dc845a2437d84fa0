"""Results are files: per-pair predictions and a summary for every evaluated dataset and method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning import Callback, LightningModule, Trainer

from geoalign.callbacks.pose_alignment import PoseAlignment
from geoalign.data.datamodule import PairDataModule
from geoalign.geometry import Pose
from geoalign.module import CorrespondenceModule, Evaluated
from geoalign.results.predictions import (
    batch_columns,
    make_table,
    merge_rank_files,
    predictions_path,
    write_predictions,
)
from geoalign.results.summary import Evaluation, Protocol, Summary, evaluate_table, make_summary, write_summary
from geoalign.types import PairBatch


class Setting(NamedTuple):
    """What a summary says of how it was made."""

    name: str
    config: Mapping[str, Any]
    matcher: Mapping[str, Any]
    pose: Mapping[str, Any]
    poses: Sequence[Pose]
    frame_px: int
    published: Any = None


class Results(Callback):
    """Collects what a test predicts and writes ``predictions-*.parquet`` and ``summary.json`` into ``folder``.

    Every rank writes its own pairs; rank 0 merges them in the dataset's order, so files and scores are the
    same for any number of ranks. Put it after callbacks that add predictions.
    """

    def __init__(self, folder: Path, setting: Setting) -> None:
        self.folder, self.setting = folder, setting
        self.summary: Summary | None = None
        self._columns: dict[tuple[str, str], list[dict[str, list[Any]]]] = {}
        self._pairs: dict[tuple[str, str], list[str]] = {}

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._columns, self._pairs = {}, {}

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: PairBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        evaluated: Evaluated = outputs
        info = evaluated["dataset"]
        for method, prediction in evaluated["predictions"].items():
            pose = [str(self.setting.poses[i]) for i in prediction.pose.tolist()]
            columns = batch_columns(batch, prediction.matches, info.categories, pose)
            self._columns.setdefault((info.name, method), []).append(columns)
            self._pairs.setdefault((info.name, method), []).extend(batch["pair_id"])

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, CorrespondenceModule)
        methods = ["plain"] + ["aligned"] * any(isinstance(c, PoseAlignment) for c in _callbacks(trainer))
        names = [(info.name, method) for info in pl_module.datasets["test"] for method in methods]
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, method in names:
            path = predictions_path(self.folder, name, method, trainer.global_rank)
            write_predictions(
                path, make_table(self._columns.get((name, method), [])), self._pairs.get((name, method), [])
            )
        trainer.strategy.barrier("results")
        if trainer.is_global_zero:
            evaluations = [self._merge(trainer, pl_module, name, method) for name, method in names]
            self.summary = make_summary(self.setting.name, self.setting.config, evaluations, self.setting.published)
            write_summary(self.folder, self.summary)
        trainer.strategy.barrier("summary")

    def _merge(self, trainer: Trainer, module: CorrespondenceModule, name: str, method: str) -> Evaluation:
        datamodule = _datamodule(trainer)
        source, order = datamodule.test_sources[name], datamodule.test_pairs(name)
        parts = [predictions_path(self.folder, name, method, rank) for rank in range(trainer.world_size)]
        merged = merge_rank_files(parts, predictions_path(self.folder, name, method), order)
        for part in parts:
            part.unlink()
        return evaluate_table(
            merged.table,
            stage="test",
            dataset=name,
            split=source.split,
            dataset_fingerprint=source.fingerprint(),
            method=method,
            protocol=self._protocol(source.threshold, module.strict, method),
            alphas=module.alphas,
        )

    def _protocol(self, threshold: str, strict: bool, method: str) -> Protocol:
        pose = self.setting.pose if method == "aligned" else {"poses": ["upright"]}
        return Protocol(
            image_protocol="letterbox-centre",
            frame_px=self.setting.frame_px,
            threshold=threshold,
            comparison="<" if strict else "<=",
            matcher=dict(self.setting.matcher),
            pose=dict(pose),
        )


def _callbacks(trainer: Trainer) -> list[Callback]:
    return list(trainer.callbacks)  # type: ignore[attr-defined]


def _datamodule(trainer: Trainer) -> PairDataModule:
    datamodule = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(datamodule, PairDataModule)
    return datamodule
