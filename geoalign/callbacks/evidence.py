"""Evidence on every match of a test, beside the truth: what a confidence is fitted to and judged by."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from lightning import Callback, Trainer
from torch import Tensor

from geoalign.bank import RecallingBank
from geoalign.files import replacing
from geoalign.matching import Plain
from geoalign.matching.confidence import evidence_of
from geoalign.metrics.functional import hits, point_error_px
from geoalign.module import CorrespondenceModule
from geoalign.results.predictions import ResultsError
from geoalign.types import Evaluated, PairBatch


class Judged(NamedTuple):
    """Matches of all keypoints that a source shows, also of those that its target does not."""

    together: Float[Tensor, "k f"]
    """Evidence with the points of a pair matched together."""
    alone: Float[Tensor, "k a"]
    """Evidence as if each had been matched by itself."""
    company: Int[Tensor, "k"]
    """Points of the pair."""
    right: Bool[Tensor, "k"]
    """The target shows it, and the match lies within ``alpha`` of the target's size."""
    shown: Bool[Tensor, "k"]
    """The target shows it."""


class Evidence(Callback):
    """Writes :class:`Judged` of a test, upright, over all its datasets, as ``evidence-<rank>.npz`` into ``folder``.

    Args:
        folder: takes the files
        alpha: threshold of a right match, share of the target's size
    """

    def __init__(self, folder: str | Path, alpha: float = 0.1) -> None:
        self.folder, self.alpha = Path(folder), alpha
        self.parts: list[Judged] = []

    def on_test_epoch_start(self, trainer: Trainer, pl_module: CorrespondenceModule) -> None:  # type: ignore[override]
        self.parts = []

    def on_test_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: CorrespondenceModule,
        outputs: Any,
        batch: PairBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.parts.append(judge(pl_module, outputs, batch, self.alpha))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: CorrespondenceModule) -> None:  # type: ignore[override]
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / f"evidence-{trainer.global_rank}.npz") as partial, partial.open("wb") as file:
            np.savez(file, **{name: column.numpy() for name, column in join(self.parts)._asdict().items()})


def join(parts: Iterable[Judged]) -> Judged:
    """The matches of all parts."""
    return Judged(*map(torch.cat, zip(*parts, strict=True)))


def read_evidence(folder: Path) -> Judged:
    """What all ranks of a run wrote, at or below its folder.

    Raises:
        ResultsError: there is none, or several runs left theirs.
    """
    files = sorted(folder.rglob("evidence-*.npz"))
    if not files:
        raise ResultsError(f"no evidence-*.npz below {folder}; run geoalign evaluate with callbacks=evidence")
    if len({path.parent for path in files}) > 1:
        raise ResultsError(f"several runs left evidence below {folder}; give the folder of one")
    arrays = [np.load(path) for path in files]
    return join(Judged(*(torch.from_numpy(one[name]) for name in Judged._fields)) for one in arrays)


@torch.no_grad()
def judge(module: CorrespondenceModule, evaluated: Evaluated, batch: PairBatch, alpha: float) -> Judged:
    """Match every keypoint that the sources of a batch show, and judge it."""
    bank, matcher, method = RecallingBank(evaluated["bank"]), module.matcher, Plain()
    rows = module.rows(batch, method)
    rows["wanted"] = batch["src_visible"]
    prediction = method(bank, rows, matcher)
    queries, together, count = evidence_of(bank, rows, prediction, method.poses, matcher)
    _, alone, _ = evidence_of(bank, rows, prediction, method.poses, matcher, alone=True)
    error = point_error_px(prediction.matches.xy_px, batch["trg_xy_px"])
    right = hits(error, batch["size_px"], (alpha,), strict=module.strict)[0] & batch["visible"]
    at = queries.row, queries.slot
    judged = Judged(together, alone, count, right[at], batch["visible"][at])
    return Judged(*(column.cpu() for column in judged))
