"""What a second look needs of the first: crops and answers for every pair of a test, from all ranks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, Trainer

from geoalign.data.batch.collate import RowLook
from geoalign.files import replacing
from geoalign.geometry import Crop
from geoalign.matching import Twice, transfer
from geoalign.module import CorrespondenceModule
from geoalign.types import PairBatch


class FirstLook(Callback):
    """Matches every keypoint that a source shows, also those that the target hides, and keeps where they were found.

    Ranks leave their pairs in files of ``folder``, so that each can read those of all.
    """

    def __init__(self, folder: Path, method: Twice) -> None:
        self.folder, self.method = folder, method
        self.looks: dict[str, dict[str, RowLook]] = {}
        """Of every pair, by dataset; all ranks' once the test has ended."""

    def on_test_epoch_start(self, trainer: Trainer, pl_module: CorrespondenceModule) -> None:  # type: ignore[override]
        self.looks = {info.name: {} for info in pl_module.datasets["test"]}

    @torch.no_grad()
    def on_test_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: CorrespondenceModule,
        outputs: Any,
        batch: PairBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        seen, frame_px = batch["src_visible"], pl_module.matcher.frame_px
        ends = batch["src"], batch["trg"], batch["src_xy_px"]
        first = transfer(outputs["bank"], *ends, pl_module.matcher, seen)
        src_xy, xy_px, score, shown = (x.cpu().numpy() for x in (batch["src_xy_px"], *first, seen))
        for row, pair in enumerate(batch["pair_id"]):
            src, trg = (self.method.crop(points[row][shown[row]], frame_px) for points in (src_xy, xy_px))
            self.looks[outputs["dataset"].name][pair] = RowLook(src, trg, xy_px[row], score[row])

    def on_test_epoch_end(self, trainer: Trainer, pl_module: CorrespondenceModule) -> None:  # type: ignore[override]
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, looks in self.looks.items():
            write_looks(self._path(name, trainer.global_rank), looks)
        trainer.strategy.barrier("looks")
        for name, looks in self.looks.items():
            for rank in range(trainer.world_size):
                looks.update(read_looks(self._path(name, rank)))
        trainer.strategy.barrier("looks read")
        for name in self.looks:
            self._path(name, trainer.global_rank).unlink()

    def _path(self, name: str, rank: int) -> Path:
        return self.folder / f"looks-{name}.rank{rank}.npz"


def write_looks(path: Path, looks: Mapping[str, RowLook]) -> None:
    """Write the looks of a rank's pairs, whole or not at all."""
    columns = list(zip(*looks.values(), strict=True)) or [np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros(0)]
    src, trg, xy_px, score = (np.asarray(column) for column in columns)
    pairs = np.array(list(looks), dtype=np.str_)
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, pairs=pairs, src=src, trg=trg, xy_px=xy_px, score=score)


def read_looks(path: Path) -> dict[str, RowLook]:
    """The looks of a rank's pairs."""
    with np.load(path, allow_pickle=False) as file:
        pairs, src, trg, xy_px, score = (file[name] for name in ("pairs", "src", "trg", "xy_px", "score"))
    ends = zip(src.tolist(), trg.tolist(), xy_px, score, strict=True)
    looks = [RowLook(Crop(*s), Crop(*t), xy, values) for s, t, xy, values in ends]
    return dict(zip(pairs.tolist(), looks, strict=True))
