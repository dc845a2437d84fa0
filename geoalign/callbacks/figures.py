"""Fixed validation pairs watched over training: matches, similarity, principal components; for dashboards too."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import Callback, Trainer
from PIL import ImageOps
from torch import Tensor

from geoalign.bank import Bank
from geoalign.callbacks.loggers import show_picture
from geoalign.data.datamodule import PairDataModule
from geoalign.data.images import open_rgb
from geoalign.data.records import PairRecord, PairSource, related_slots
from geoalign.draw.features import FeatureRow, principal_colours, save_features
from geoalign.draw.matches import Panel, save_panels
from geoalign.geometry import Framing, letterbox
from geoalign.keys import media_key
from geoalign.matching import transfer
from geoalign.metrics.anatomy import VERDICTS, verdict
from geoalign.module import CorrespondenceModule
from geoalign.refiner import Identity
from geoalign.types import Evaluated, PairBatch, Views

SIDE = 240
"""Px of a frame beside its maps."""
PICTURE = 560
"""Px of the longer side of a picture with matches."""


class Still(NamedTuple):
    """What training does not change of a drawn pair."""

    frames: tuple[np.ndarray, np.ndarray]  # with their bars, as the maps are
    pictures: tuple[np.ndarray, np.ndarray]  # without
    before: Panel
    colours: np.ndarray  # (2 h w 3) of the frozen features


class TrainingFigures(Callback):
    """Pictures of pairs of the first validation set, after its validations.

    The pairs are spread evenly over (rank 0's part of) the set and stay the same. Written to
    ``folder/<step>-matches.png`` and ``<step>-features.png``, and sent to wandb or TensorBoard where that is a logger.

    Args:
        folder: of the pictures
        pairs: of the first validation set, always the same
        every: validations
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
        self._source: PairSource | None = None
        self._stills: dict[str, Still] = {}

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: CorrespondenceModule) -> None:  # type: ignore[override]
        self._before, self._after, self._features, self._seen = [], [], [], 0

    @torch.no_grad()
    def on_validation_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: CorrespondenceModule,
        outputs: Any,
        batch: PairBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not trainer.is_global_zero or dataloader_idx or self._epochs % self.every:
            return
        datamodule: PairDataModule = trainer.datamodule  # type: ignore[attr-defined]
        loaders: Any = trainer.val_dataloaders
        total = len(loaders[0].sampler)
        wanted = set(np.linspace(0, total - 1, self.pairs).round().astype(int).tolist())
        if not self._records:
            self._source = datamodule.val_sources[outputs["dataset"].name]
            self._records = {pair.pair_id: pair for pair in self._source}
        for row in range(len(batch["src"])):
            if self._seen + row in wanted:
                self._draw(pl_module, outputs, batch, row, self._records[batch["pair_id"][row].split("#")[0]])
        self._seen += len(batch["src"])

    def on_validation_end(self, trainer: Trainer, pl_module: CorrespondenceModule) -> None:  # type: ignore[override]
        self._epochs += 1
        if not self._after or trainer.sanity_checking:
            return
        name, step = pl_module.datasets["val"][0].name, trainer.global_step
        paths = {kind: self.folder / f"{step:06d}-{kind}.png" for kind in ("matches", "features")}
        save_panels({"frozen features": self._before, f"refined, step {step}": self._after}, paths["matches"])
        save_features(self._features, paths["features"])
        for logger in trainer.loggers:
            for kind, path in paths.items():
                show_picture(logger, media_key("val", name, kind), path, trainer.global_step)

    def _draw(
        self, module: CorrespondenceModule, outputs: Evaluated, batch: PairBatch, row: int, pair: PairRecord
    ) -> None:
        shown = batch["visible"][row].nonzero().squeeze(-1)
        if pair.pair_id not in self._stills:
            self._stills[pair.pair_id] = self._still(module, outputs, batch, row, pair)
        still, frame_px = self._stills[pair.pair_id], module.matcher.frame_px
        after = outputs["predictions"]["plain"].matches.xy_px[row]
        self._before.append(still.before)
        verdicts = self._verdicts(batch, row, after, pair)
        self._after.append(_panel(batch, row, shown, after, still.pictures, frame_px, verdicts, pair.src.framing))
        aware = (batch["visible"] & batch["geometry_aware"])[row].nonzero().squeeze(-1)
        slot = int((aware if len(aware) else shown)[0])  # a point with a twin tells most
        self._features.append(_feature_row(still, outputs, batch, row, slot, frame_px))

    def _still(
        self, module: CorrespondenceModule, outputs: Evaluated, batch: PairBatch, row: int, pair: PairRecord
    ) -> Still:
        maps = module.maps(_pick(batch["views"], torch.stack([batch["src"][row], batch["trg"][row]])))
        grid = outputs["bank"].grid[1] // outputs["bank"].finer
        raw = Identity([m.shape[1] for m in maps], grid).bank(maps, module.matcher.frame_px)
        opened = [open_rgb(record.path, record.size) for record in (pair.src, pair.trg)]
        first, second = (np.asarray(letterbox(image, SIDE, framing=pair.src.framing)) for image in opened)
        source, target = (np.asarray(ImageOps.contain(image, (PICTURE, PICTURE))) for image in opened)
        shown = batch["visible"][row].nonzero().squeeze(-1)
        src, trg = torch.arange(2, device=shown.device).split(1)
        xy_px, visible = batch["src_xy_px"][row, None], batch["visible"][row, None]
        before = transfer(raw, src, trg, xy_px, module.matcher, visible).xy_px[0]
        verdicts = self._verdicts(batch, row, before, pair)
        frame_px, framing = module.matcher.frame_px, pair.src.framing
        panel = _panel(batch, row, shown, before, (source, target), frame_px, verdicts, framing)
        return Still((first, second), (source, target), panel, principal_colours(_cells(raw, 0, 1)).cpu().numpy())

    def _verdicts(self, batch: PairBatch, row: int, predicted_px: Tensor, pair: PairRecord) -> list[str]:
        """What kind of error every keypoint of a row is, at 0.10."""
        assert self._source is not None
        device = predicted_px.device
        found = verdict(
            predicted_px[None].float(),
            batch["trg_xy_px"][row, None],
            torch.from_numpy(pair.trg.visible)[None].to(device),
            torch.from_numpy(related_slots(self._source, pair.trg.category))[None].to(device),
            batch["size_px"][row, None],
        )
        return [VERDICTS[i] for i in found[0].tolist()]


def _pick(views: Views, which: Tensor) -> Views:
    if "maps" in views:
        return {"maps": [m[which] for m in views["maps"]]}
    return {"images": {size: pixels[which] for size, pixels in views["images"].items()}}


def _panel(
    batch: PairBatch,
    row: int,
    shown: Tensor,
    predicted_px: Tensor,
    pictures: tuple[np.ndarray, np.ndarray],
    frame_px: float,
    verdicts: list[str],
    framing: Framing,
) -> Panel:
    found = [verdicts[i] for i in shown.tolist()]
    every = (batch["src_xy_px"][row], predicted_px, batch["trg_xy_px"][row])
    source, predicted, true = (x[shown].cpu().numpy() for x in every)
    title = f"{found.count('correct')} of {len(found)} within 0.10"
    return Panel(*pictures, source, predicted, true, found, title, round(frame_px), framing)


def _feature_row(
    still: Still, outputs: Evaluated, batch: PairBatch, row: int, slot: int, frame_px: float
) -> FeatureRow:
    bank, src, trg = outputs["bank"], batch["src"][row], batch["trg"][row]
    point, truth = batch["src_xy_px"][row, slot], batch["trg_xy_px"][row, slot]
    similarity = bank.read(src[None], point[None], trg[None]).similarity[0]
    refined = principal_colours(_cells(bank, int(src), int(trg))).cpu().numpy()
    (x1, y1), (x2, y2) = ((p * SIDE / frame_px).tolist() for p in (point, truth))
    components = {"frozen": still.colours, "refined": refined}
    return FeatureRow(*still.frames, components, (x1, y1), (x2, y2), similarity.float().cpu().numpy())


def _cells(bank: Bank, src: int, trg: int) -> Tensor:
    return torch.stack([bank.cells(src), bank.cells(trg)])
