"""Metrics that came after the paper, during a test: PCK-dagger and KAP (Jamais Vu), GECO's split by visibility."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning import Callback, Trainer
from torch import Tensor

from geoalign.bank import Bank, Queries
from geoalign.console import say
from geoalign.files import replacing
from geoalign.geometry import cell_to_px
from geoalign.keys import metric_key
from geoalign.metrics import PCK
from geoalign.metrics.functional import subset_masks
from geoalign.metrics.kap import KAP
from geoalign.metrics.pck_dagger import dagger_error_px
from geoalign.metrics.visibility_split import VisibilitySplit
from geoalign.module import CorrespondenceModule
from geoalign.types import Evaluated, PairBatch

ROWS = 32
"""Rows whose maps are held at once: 14 MB at 30 slots and 60×60 cells."""


class Metrics(NamedTuple):
    """What is counted of one dataset."""

    dagger: PCK
    geco: VisibilitySplit
    kap: KAP


class LaterMetrics(Callback):
    """Counts every keypoint seen in the source, upright, and writes ``later_metrics.json`` into ``folder``.

    KAP and GECO's split also judge keypoints that the target does not show, so they cannot be had from the saved
    predictions. GECO compares with ``<=``.

    Args:
        folder: takes later_metrics.json
        released_kap: true: raw maxima, as the released function takes them
    """

    def __init__(self, folder: str | Path, released_kap: bool = False) -> None:
        self.path, self.released_kap = Path(folder) / "later_metrics.json", released_kap
        self.metrics: dict[str, Metrics] = {}

    def on_test_epoch_start(self, trainer: Trainer, pl_module: CorrespondenceModule) -> None:  # type: ignore[override]
        self.metrics = {info.name: self._new(pl_module, info.categories) for info in pl_module.datasets["test"]}

    def _new(self, module: CorrespondenceModule, categories: Sequence[str]) -> Metrics:
        kap = KAP(module.alphas, self.released_kap, module.strict, module.matcher.frame_px)
        pck, geco = PCK(module.alphas, categories, module.strict), VisibilitySplit(module.alphas)
        return Metrics(pck.to(module.device), geco.to(module.device), kap.to(module.device))

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
        evaluated: Evaluated = outputs
        for rows in torch.arange(len(batch["src"]), device=pl_module.device).split(ROWS):
            _update(self.metrics[evaluated["dataset"].name], pl_module, evaluated["bank"], batch, rows)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: CorrespondenceModule) -> None:  # type: ignore[override]
        named = {key: value for name, found in self.metrics.items() for key, value in _named(name, found)}
        if trainer.is_global_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as partial:
                partial.write_text(json.dumps(named, indent=1) + "\n", encoding="utf-8")
            say("\n".join(f"{value:8.1f}  {key}" for key, value in named.items()))


def _named(dataset: str, found: Metrics) -> Iterator[tuple[str, float]]:
    """Percent by name; every rank takes part in the sums."""
    for (metric, average), value in {**found.kap.compute(), **found.geco.compute()}.items():
        yield metric_key("test", dataset, metric, average), value if average == "count" else 100 * value
    for key, value in found.dagger.compute().named("test", dataset).items():
        if "/pck@" in key:
            yield key.replace("/pck@", "/pck_dagger@"), 100 * value


def _update(found: Metrics, module: CorrespondenceModule, bank: Bank, batch: PairBatch, rows: Tensor) -> None:
    similarity, predicted_px = _maps(module, bank, batch, rows)
    true_px, size_px, category = batch["trg_xy_px"][rows], batch["size_px"][rows], batch["category"][rows]
    seen = batch["src_visible"][rows], batch["trg_visible"][rows]
    visible, partner = batch["visible"][rows], batch["partner"][rows]
    subsets = subset_masks(visible, batch["geometry_aware"][rows], batch["azimuth_difference"][rows], partner)
    found.dagger.update(dagger_error_px(predicted_px, true_px, seen[1]), size_px, visible, subsets, category)
    found.geco.update(predicted_px, true_px, size_px, *seen, partner)
    found.kap.update(similarity, true_px, size_px, *seen, category)


def _maps(module: CorrespondenceModule, bank: Bank, batch: PairBatch, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Similarity ``(b n h w)`` and prediction ``(b n 2)`` of the source's keypoints; zero where it shows none."""
    wanted, matcher = batch["src_visible"][rows], module.matcher
    queries = Queries.of(batch["src"][rows], batch["trg"][rows], batch["src_xy_px"][rows], wanted)
    similarity = bank.read(queries.view, queries.xy_px, queries.trg, matcher.source).similarity
    predicted_px = cell_to_px(matcher.read(similarity, bank.finer), bank.stride).to(queries.xy_px.dtype)
    return queries.spread(similarity, wanted), queries.spread(predicted_px, wanted)
