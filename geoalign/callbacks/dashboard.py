"""What wandb gets beside the logged numbers: facts of the run, tables, best values, files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from geoalign.callbacks.loggers import TensorBoardLog, WandbLog, show_picture
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

    The facts, the table and the best values are for wandb alone.

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
        if trainer.sanity_checking or not trainer.is_global_zero:
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
            if _dashboards(trainer) and draw_azimuth(result, pl_module.alphas, plot):
                for logger in _dashboards(trainer):
                    show_picture(logger, media_key("val", info.name, "by_azimuth"), plot, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for logger in _wandb(trainer):
            logger.summarise({best_key(k): v for k, v in self.best.items() if k.endswith("/image")})


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


def publish_run(loggers: Iterable[Any], folder: Path, checkpoint: str | None, step: int = 0) -> None:
    """Send a finished run's scores to the dashboards, best checkpoint and results to wandb; ends the wandb run.

    Called on rank 0 alone. The refined results come first, as a summary may be full.
    """
    scores = dict[str, float]()
    for path in sorted((folder / "results").glob(f"*/{SUMMARY_NAME}"), key=lambda path: path.parent.name != "refined"):
        for evaluation in read_summary(path.parent)["evaluations"]:
            scores |= {f"{path.parent.name}/{key}": value for key, value in evaluation["metrics"].items()}
    for logger in loggers:
        if isinstance(logger, TensorBoardLog):
            logger.log_metrics(scores, step)
            logger.finalize("success")
        if isinstance(logger, WandbLog):
            import wandb

            run = logger.experiment
            files = {"model": Path(checkpoint) if checkpoint else None, "results": folder / "results"}
            for kind, sent in files.items():
                if sent is not None and sent.exists():
                    artifact = wandb.Artifact(f"{'checkpoint' if kind == 'model' else kind}-{run.id}", type=kind)
                    artifact.add_dir(str(sent)) if sent.is_dir() else artifact.add_file(str(sent))
                    run.log_artifact(artifact)
            logger.summarise({key: value for key, value in scores.items() if "category_" not in key})
            wandb.finish()


def _wandb(trainer: Trainer) -> list[WandbLog]:
    return [x for x in trainer.loggers if isinstance(x, WandbLog)] if trainer.is_global_zero else []


def _dashboards(trainer: Trainer) -> list[Any]:
    return [x for x in trainer.loggers if isinstance(x, WandbLog | TensorBoardLog)]
