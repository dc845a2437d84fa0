"""Fixed validation pairs watched over training: matches, similarity, principal components; as files and on wandb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor

from geoalign.data.datamodule import PairDataModule
from geoalign.data.images import open_rgb
from geoalign.data.records import ImageRecord, PairRecord
from geoalign.draw.features import FeatureRow, principal_colours, save_features
from geoalign.draw.matches import Panel, save_panels
from geoalign.geometry import letterbox
from geoalign.keys import media_key
from geoalign.matching import Matcher, transfer
from geoalign.matching.correlation import correlate
from geoalign.metrics.functional import point_error_px
from geoalign.module import CorrespondenceModule, Evaluated
from geoalign.refiner import Identity
from geoalign.types import Matches, PairBatch, Views

SIDE = 240


class TrainingFigures(Callback):
    """After every ``every``-th validation, pictures of ``pairs`` pairs of the first validation set.

    The pairs are spread evenly over (rank 0's part of) the set and stay the same. Written to
    ``folder/<step>-matches.png`` and ``<step>-features.png``, and sent to wandb where that is a logger.
    """

    def __init__(self, folder: str | Path, pairs: int = 4, every: int = 1) -> None:
        if pairs < 1 or every < 1:
            raise ValueError(f"callbacks.figures wants pairs and every of at least 1, got {pairs} and {every}")
        self.folder, self.pairs, self.every = Path(folder), pairs, every
        self._before: list[Panel] = []
        self._after: list[Panel] = []
        self._features: list[FeatureRow] = []
        self._seen, self._epochs = 0, 0
        self._records: dict[str, PairRecord] = {}

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._before, self._after, self._features, self._seen = [], [], [], 0

    @torch.no_grad()
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: PairBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not trainer.is_global_zero or dataloader_idx or self._epochs % self.every:
            return
        assert isinstance(pl_module, CorrespondenceModule)
        datamodule: PairDataModule = trainer.datamodule  # type: ignore[attr-defined]
        loaders: Any = trainer.val_dataloaders
        total = len(loaders[0].sampler)
        wanted = set(np.linspace(0, total - 1, self.pairs).round().astype(int).tolist())
        if not self._records:
            source = datamodule.val_sources[outputs["dataset"].name]
            self._records = {pair.pair_id: pair for pair in source}
        for row in range(len(batch["src"])):
            if self._seen + row in wanted:
                self._draw(pl_module, outputs, batch, row, self._records[batch["pair_id"][row].split("#")[0]])
        self._seen += len(batch["src"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epochs += 1
        if not self._after or trainer.sanity_checking:
            return
        assert isinstance(pl_module, CorrespondenceModule)
        name, step = pl_module.datasets["val"][0].name, trainer.global_step
        paths = {kind: self.folder / f"{step:06d}-{kind}.png" for kind in ("matches", "features")}
        save_panels({"frozen features": self._before, f"refined, step {step}": self._after}, paths["matches"])
        save_features(self._features, paths["features"])
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                for kind, path in paths.items():
                    logger.log_image(media_key("val", name, kind), [str(path)])

    def _draw(
        self, module: CorrespondenceModule, outputs: Evaluated, batch: PairBatch, row: int, pair: PairRecord
    ) -> None:
        ends = torch.stack([batch["src"][row], batch["trg"][row]])
        maps = module.maps(_pick(batch["views"], ends))
        raw = Identity([m.shape[1] for m in maps], outputs["bank"].shape[-1])(maps)
        refined = outputs["bank"][ends]
        frames = _frame(pair.src), _frame(pair.trg)
        shown = batch["visible"][row].nonzero().squeeze(-1)
        matches = outputs["predictions"]["plain"].matches.xy_px[row]
        self._after.append(_panel(batch, row, shown, matches, frames, module.matcher.frame_px))
        before = _match(raw, batch, row, module.matcher).xy_px[0]
        self._before.append(_panel(batch, row, shown, before, frames, module.matcher.frame_px))
        self._features.append(_feature_row(raw, refined, batch, row, int(shown[0]), frames, module.matcher))


def _pick(views: Views, which: Tensor) -> Views:
    if "maps" in views:
        return {"maps": [m[which] for m in views["maps"]]}
    return {"images": {size: pixels[which] for size, pixels in views["images"].items()}}


def _match(bank: Tensor, batch: PairBatch, row: int, matcher: Matcher) -> Matches:
    src, trg = torch.arange(2, device=bank.device).split(1)
    return transfer(bank, src, trg, batch["src_xy_px"][row, None], matcher, batch["visible"][row, None])


def _panel(
    batch: PairBatch, row: int, shown: Tensor, predicted_px: Tensor, frames: tuple[np.ndarray, np.ndarray], frame: float
) -> Panel:
    error = point_error_px(predicted_px, batch["trg_xy_px"][row])[shown]
    right = error < 0.1 * batch["size_px"][row]
    points = [x[shown].cpu().numpy() * (SIDE / frame) for x in (batch["src_xy_px"][row], predicted_px)]
    true = batch["trg_xy_px"][row][shown].cpu().numpy() * (SIDE / frame)
    title = f"{int(right.sum())} of {len(shown)} within 0.10"
    return Panel(*frames, points[0], points[1], true, ["correct" if r else "near" for r in right.tolist()], title)


def _feature_row(
    raw: Tensor,
    refined: Tensor,
    batch: PairBatch,
    row: int,
    slot: int,
    frames: tuple[np.ndarray, np.ndarray],
    matcher: Matcher,
) -> FeatureRow:
    point, truth = batch["src_xy_px"][row, slot], batch["trg_xy_px"][row, slot]
    view, trg = torch.arange(2, device=refined.device).split(1)
    stride = matcher.frame_px / refined.shape[-1]
    similarity = correlate(refined, view, point[None], trg, stride).similarity[0]
    components = {n: principal_colours(b).cpu().numpy() for n, b in (("frozen", raw), ("refined", refined))}
    (x1, y1), (x2, y2) = ((p * SIDE / matcher.frame_px).tolist() for p in (point, truth))
    return FeatureRow(*frames, components, (x1, y1), (x2, y2), similarity.float().cpu().numpy())


def _frame(record: ImageRecord) -> np.ndarray:
    return np.asarray(letterbox(open_rgb(record.path, record.size), SIDE))
