"""What the scripts do, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from geoalign.build import Parts, build, make_group, make_trainer, progress, zero_shot
from geoalign.callbacks import Results
from geoalign.callbacks.csv_log import cut
from geoalign.callbacks.dashboard import publish_run
from geoalign.callbacks.interruption import last_good, read_checkpoint
from geoalign.callbacks.results import Setting
from geoalign.module import CorrespondenceModule
from geoalign.options.jobs import output_dir
from geoalign.refiner import Identity
from geoalign.refiner.checkpoint import find_checkpoint, load_weights
from geoalign.report.final import show
from geoalign.results.summary import SUMMARY_NAME

ZERO_SHOT, REFINED = "zero-shot", "refined"


def train(cfg: DictConfig) -> float | None:
    """Fit, test of the frozen features alone and of the best checkpoint, figures and table; the best objective."""
    if cfg.initial is not None:
        find_checkpoint(cfg.initial)  # a wrong path stops here, before hours of features
    parts = build(cfg, ["train", "val", "test"])
    if isinstance(parts.module.refiner, Identity):
        raise ValueError("refiner=identity has nothing to train; use evaluate.py, or refiner=aggregation")
    if cfg.initial is not None:
        load_weights(parts.module.refiner, cfg.initial)
    results = output_dir() / "results"
    resume = last_good(output_dir()) if cfg.resume == "auto" else cfg.resume
    kept = resume is not None and (results / ZERO_SHOT / SUMMARY_NAME).is_file()  # else of another run in this folder
    baseline = cfg.baseline and parts.datamodule.test_sources and not kept
    if resume is not None:
        rank_zero_only(cut)(output_dir(), read_checkpoint(resume)["global_step"])
    callbacks = make_group(cfg.callbacks)
    trainer = make_trainer(cfg, callbacks, make_group(cfg.logger) or False)
    for logger in trainer.loggers:
        logger.log_hyperparams(OmegaConf.to_container(cfg, resolve=True))  # type: ignore[arg-type]
    # what extraction drew depends on what was in the cache
    lightning.seed_everything(cfg.seed, workers=True, verbose=False)
    trainer.fit(parts.module, datamodule=parts.datamodule, ckpt_path=resume, weights_only=True)
    best = trainer.checkpoint_callback
    if isinstance(best, ModelCheckpoint) and best.best_model_path:
        load_weights(parts.module.refiner, best.best_model_path)
    if baseline:  # after the fit, so that training starts at once
        label = f"{cfg.name}, before training"
        test(cfg, parts, zero_shot(parts, cfg), results / ZERO_SHOT, label, None, progress(cfg))
    if parts.datamodule.test_sources:
        test(cfg, parts, parts.module, results / REFINED, cfg.name, cfg.published, progress(cfg))
    if trainer.is_global_zero:
        publish_run(trainer.loggers, output_dir(), getattr(best, "best_model_path", None))
        show(output_dir(), parts.datamodule.test_sources)
    return objective(trainer)


def evaluate(cfg: DictConfig) -> None:
    """Test given weights, or the frozen features alone; results and figures into the run's folder."""
    if cfg.checkpoint is not None:
        find_checkpoint(cfg.checkpoint)
    parts = build(cfg, ["test"])
    name = ZERO_SHOT if isinstance(parts.module.refiner, Identity) else REFINED
    if name == REFINED:
        if cfg.checkpoint is None:
            raise ValueError("evaluate needs checkpoint=<run folder or weights file>, or refiner=identity (zero-shot)")
        load_weights(parts.module.refiner, cfg.checkpoint)
    callbacks = make_group(cfg.callbacks)
    trainer = test(cfg, parts, parts.module, output_dir() / "results" / name, cfg.name, cfg.published, callbacks)
    if trainer.is_global_zero:
        show(output_dir(), parts.datamodule.test_sources)


def test(
    cfg: DictConfig,
    parts: Parts,
    module: CorrespondenceModule,
    folder: Path,
    name: str,
    published: Any,
    callbacks: Sequence[Callback],
) -> Trainer:
    """One pass over the test sets by every method of the module; writes predictions and summary into ``folder``.

    ``name`` is the result's row in tables, ``published`` its neighbour there (a method, or one per method, or None).
    """
    setting = Setting(
        name=name,
        config=OmegaConf.to_container(cfg, resolve=True),  # type: ignore[arg-type]  # a mapping at the top
        published=OmegaConf.to_container(published) if isinstance(published, DictConfig) else published,
    )
    trainer = make_trainer(cfg, [*callbacks, Results(folder, setting)], logger=False)
    trainer.test(module, datamodule=parts.datamodule, verbose=False)
    return trainer


def objective(trainer: Trainer) -> float | None:
    """The best value of what the checkpoint callback monitors."""
    best = trainer.checkpoint_callback
    score = best.best_model_score if isinstance(best, ModelCheckpoint) else None
    return None if score is None else float(score)
