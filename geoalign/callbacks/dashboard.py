"""What wandb gets beside the logged numbers: facts of the run, tables, best values, files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from geoalign.data.datamodule import PairDataModule
from geoalign.draw.curves import save_curves
from geoalign.keys import alpha_name, best_key, media_key
from geoalign.metrics.functional import AZIMUTH_BINS, azimuth_subset
from geoalign.metrics.pck import PckResult, Score
from geoalign.module import CorrespondenceModule
from geoalign.results.summary import SUMMARY_NAME, read_summary
from geoalign.results.version import code_version


class Dashboard(Callback):
    """Facts at the start; after every validation a table by category and PCK over azimuth; best values at the end.

    Does nothing without a wandb logger.

    Args:
        folder: of the drawn plots
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.best: dict[str, float] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        datamodule: PairDataModule = trainer.datamodule  # type: ignore[attr-defined]
        sources = {"train": datamodule.train_source, **datamodule.val_sources}
        facts = {
            "code_version": code_version(),
            "dataset_fingerprint": {n: s.fingerprint() for n, s in sources.items() if s is not None},
        }
        for logger in _wandb(trainer):
            logger.log_hyperparams(facts)

    def on_validation_end(self, trainer: Trainer, pl_module: CorrespondenceModule) -> None:  # type: ignore[override]
        if trainer.sanity_checking or not _wandb(trainer):
            return
        for key, value in trainer.callback_metrics.items():
            if "/pck@" in key:
                self.best[key] = max(float(value), self.best.get(key, 0.0))
        for info, metrics in zip(pl_module.datasets["val"], pl_module.metrics, strict=True):
            result = metrics["plain"].compute()  # kept since the epoch's end: nothing is summed again
            for logger in _wandb(trainer):
                columns, rows = by_category(result, pl_module.alphas)
                logger.log_table(media_key("val", info.name, "by_category"), columns, rows)
                plot = self.folder / f"azimuth-{info.name}.png"
                if draw_azimuth(result, pl_module.alphas, plot):
                    logger.log_image(media_key("val", info.name, "by_azimuth"), [str(plot)])

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for logger in _wandb(trainer):
            logger.experiment.summary.update({best_key(k): v for k, v in self.best.items()})


def by_category(result: PckResult, alphas: tuple[float, ...]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows: pairs and PCK per image and per keypoint of every category."""
    wanted = [(alpha, average) for alpha in alphas for average in ("image", "keypoint")]
    columns = ["category", "pairs", *(f"pck@{alpha_name(a)}/{average}" for a, average in wanted)]
    rows = [
        [category, count.pairs, *(result.scores[Score("all", category, *at)] for at in wanted)]
        for (subset, category), count in result.counts.items()
        if subset == "all" and category != "all"
    ]
    return columns, rows


def draw_azimuth(result: PckResult, alphas: tuple[float, ...], path: Path) -> bool:
    """PCK per keypoint over the difference of azimuths; false where no azimuth is known."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for alpha in alphas:
        keys = [Score(azimuth_subset(d), "all", alpha, "keypoint") for d in range(AZIMUTH_BINS)]
        found = [(45.0 * d, 100 * result.scores[k]) for d, k in enumerate(keys) if k in result.scores]
        curves[f"@{alpha_name(alpha)}"] = [x for x, _ in found], [y for _, y in found]
    if not any(x for x, _ in curves.values()):
        return False
    ticks = [45.0 * d for d in range(AZIMUTH_BINS)]
    save_curves({"PCK (%) per keypoint": curves}, path, "difference of azimuths (degrees)", ticks)
    return True


def publish_run(trainer: Trainer, folder: Path, checkpoint: str | None) -> None:
    """Send a finished run's best checkpoint and results to wandb, their scores as summary; ends the wandb run."""
    for logger in _wandb(trainer):
        import wandb

        run = logger.experiment
        for kind, path in {"model": Path(checkpoint) if checkpoint else None, "results": folder / "results"}.items():
            if path is not None and path.exists():
                artifact = wandb.Artifact(f"{'checkpoint' if kind == 'model' else kind}-{run.id}", type=kind)
                artifact.add_dir(str(path)) if path.is_dir() else artifact.add_file(str(path))
                run.log_artifact(artifact)
        for path in sorted((folder / "results").glob(f"*/{SUMMARY_NAME}")):
            for evaluation in read_summary(path.parent)["evaluations"]:
                scores: Mapping[str, float] = evaluation["metrics"]
                run.summary.update({f"{path.parent.name}/{k}": v for k, v in scores.items() if "category_" not in k})
        wandb.finish()


def wandb_logger(save_dir: str, **options: Any) -> WandbLogger:
    """A wandb logger for a run's folder: the same wandb run when it goes on; offline where there is no login."""
    if not logged_in():
        return WandbLogger(save_dir=save_dir, offline=True, **options)
    own = hashlib.sha256(str(Path(save_dir).resolve()).encode()).hexdigest()[:12]
    return WandbLogger(save_dir=save_dir, version=own, resume="allow", **options)


def logged_in() -> bool:
    """Whether wandb may go online: ``WANDB_MODE`` decides, else a key in the environment or in ``~/.netrc``."""
    if mode := os.environ.get("WANDB_MODE"):
        return mode == "online"
    from requests.utils import get_netrc_auth  # wandb needs it as well

    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    return bool(os.environ.get("WANDB_API_KEY") or get_netrc_auth(host))


def _wandb(trainer: Trainer) -> list[WandbLogger]:
    return [x for x in trainer.loggers if isinstance(x, WandbLogger)] if trainer.is_global_zero else []
