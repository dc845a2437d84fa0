"""Results are files: per-pair predictions and a summary for every evaluated dataset and method."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lightning import Callback, Trainer

from geoalign.callbacks.pose_results import PoseResult
from geoalign.data.datamodule import PairDataModule
from geoalign.geometry import Framing
from geoalign.matching import Method
from geoalign.module import CorrespondenceModule
from geoalign.results.predictions import (
    batch_columns,
    make_table,
    merge_rank_files,
    predictions_path,
    write_predictions,
)
from geoalign.results.summary import Evaluation, Protocol, Summary, evaluate_table, make_summary, write_summary
from geoalign.types import Evaluated, PairBatch

IMAGE_PROTOCOL: dict[Framing, str] = {"letterbox": "letterbox-centre", "squash": "squash", "pad": "pad-bottom-right"}
"""What results call a framing."""


class Setting(NamedTuple):
    """What a summary says of how it was made."""

    name: str
    config: Mapping[str, Any]
    published: Any = None


class Results(Callback):
    """Collects what a test predicts and writes ``predictions-*.parquet`` and ``summary.json`` into ``folder``.

    Every rank writes its own pairs; rank 0 merges them in the dataset's order, so files and scores are the
    same for any number of ranks. Several tests, of other methods, add to one summary.
    """

    def __init__(self, folder: Path, setting: Setting) -> None:
        self.folder, self.setting = folder, setting
        self.summary: Summary | None = None
        self._evaluations: list[Evaluation] = []
        self._columns: dict[tuple[str, str], list[dict[str, list[Any]]]] = {}
        self._pairs: dict[tuple[str, str], list[str]] = {}
        self._poses: dict[tuple[str, str], PoseResult] = {}

    def on_test_epoch_start(self, trainer: Trainer, pl_module: CorrespondenceModule) -> None:  # type: ignore[override]
        self._columns, self._pairs = {}, {}
        several = [method for method in pl_module.methods if len(method.poses) > 1]
        every = [(info, method) for info in pl_module.datasets["test"] for method in several]
        self._poses = {(info.name, method.name): PoseResult(pl_module, info, method) for info, method in every}

    def on_test_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: CorrespondenceModule,
        outputs: Any,
        batch: PairBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        evaluated: Evaluated = outputs
        info = evaluated["dataset"]
        for method in pl_module.methods:
            prediction = evaluated["predictions"][method.name]
            pose = [str(method.poses[i]) for i in prediction.pose.tolist()]
            columns = batch_columns(batch, prediction.matches, info.categories, pose)
            self._columns.setdefault((info.name, method.name), []).append(columns)
            self._pairs.setdefault((info.name, method.name), []).extend(batch["pair_id"])
            if (info.name, method.name) in self._poses:
                self._poses[info.name, method.name].update(evaluated, batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: CorrespondenceModule) -> None:  # type: ignore[override]
        every = [(info.name, method) for info in pl_module.datasets["test"] for method in pl_module.methods]
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, method in every:
            path, key = predictions_path(self.folder, name, method.name, trainer.global_rank), (name, method.name)
            write_predictions(path, make_table(self._columns.get(key, [])), self._pairs.get(key, []))
        poses = {key: result.named("test") for key, result in self._poses.items()}  # on every rank: they add up
        trainer.strategy.barrier("results")
        if trainer.is_global_zero:
            self._evaluations += [
                self._merge(trainer, pl_module, name, method, poses.get((name, method.name), {}))
                for name, method in every
            ]
            setting = self.setting
            self.summary = make_summary(setting.name, setting.config, self._evaluations, setting.published)
            write_summary(self.folder, self.summary)
        trainer.strategy.barrier("summary")

    def _merge(
        self,
        trainer: Trainer,
        module: CorrespondenceModule,
        name: str,
        method: Method,
        poses: Mapping[str, float],
    ) -> Evaluation:
        datamodule: PairDataModule = trainer.datamodule  # type: ignore[attr-defined]
        source, order = datamodule.test_sources[name], datamodule.test_pairs(name)
        parts = [predictions_path(self.folder, name, method.name, rank) for rank in range(trainer.world_size)]
        merged = merge_rank_files(parts, predictions_path(self.folder, name, method.name), order)
        for part in parts:
            part.unlink()
        return evaluate_table(
            merged.table,
            stage="test",
            dataset=name,
            split=source.split,
            dataset_fingerprint=source.fingerprint(),
            method=method.name,
            protocol=Protocol(
                image_protocol=IMAGE_PROTOCOL[datamodule.frame],
                frame_px=module.matcher.frame_px,
                threshold=source.threshold,
                comparison="<" if module.strict else "<=",
                matcher=dataclasses.asdict(module.matcher),
                pose=method.protocol(),
            ),
            alphas=module.alphas,
            also=poses,
        )
