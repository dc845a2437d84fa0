"""What the scripts do, step by step."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from geoalign.build import Parts, build, make_group, make_trainer, progress, second_look, zero_shot
from geoalign.callbacks import Results
from geoalign.callbacks.checkpoints import FOLDER, last_good, read_checkpoint
from geoalign.callbacks.csv_log import cut
from geoalign.callbacks.dashboard import publish_run
from geoalign.callbacks.first_look import FirstLook
from geoalign.callbacks.results import Setting
from geoalign.callbacks.same_run import RUN, SameRun, check, contents, record
from geoalign.files import replacing
from geoalign.module import CorrespondenceModule
from geoalign.options.jobs import keep_config, output_dir
from geoalign.refiner.checkpoint import find_checkpoint, load_weights
from geoalign.report.figures import VALIDATION
from geoalign.report.final import show
from geoalign.results.summary import SUMMARY_NAME

log = logging.getLogger(__name__)
ZERO_SHOT, REFINED = "zero-shot", "refined"


def train(cfg: DictConfig) -> float | None:
    """Fit, test of the frozen features alone and of the best checkpoint, figures and table; the best objective."""
    folder, config = output_dir(), _plain(cfg)
    # a wrong path or another run's checkpoint stops here, before hours of features
    initial = None if cfg.initial is None else find_checkpoint(cfg.initial)
    resume = last_good(folder) if cfg.resume == "auto" else cfg.resume
    saved = {} if resume is None else read_checkpoint(resume)
    if resume is not None:
        check(saved.get(RUN), record(config, folder), resume)
    parts = build(cfg, ["train", "val", "test"], initial)
    if not parts.module.refiner.trainable:
        raise ValueError("refiner=identity has nothing to train; use geoalign evaluate, or refiner=aggregation")
    now = record(config, folder, contents(parts.datamodule, parts.backbone.fingerprint, initial))
    if resume is None:
        put_aside(folder)
    else:
        check(saved.get(RUN), now, resume)
        rank_zero_only(cut)(folder, saved["global_step"])
    keep_config()
    kept = resume is not None and (folder / "results" / ZERO_SHOT / SUMMARY_NAME).is_file()
    callbacks = make_group(cfg.callbacks)
    trainer = make_trainer(cfg, [*callbacks.values(), SameRun(now)], [*make_group(cfg.logger).values()] or False)
    for logger in trainer.loggers:
        logger.log_hyperparams(config)
    # what extraction drew depends on what was in the cache
    lightning.seed_everything(cfg.seed, workers=True, verbose=False)
    trainer.fit(parts.module, datamodule=parts.datamodule, ckpt_path=resume, weights_only=True)
    best = callbacks.get("checkpoint")
    if best and best.best_model_path:
        load_weights(parts.module.refiner, best.best_model_path)
    if parts.datamodule.test_sources:
        if cfg.baseline and not kept:  # after the fit, so that training starts at once
            label, frozen = f"{cfg.name}, before training", zero_shot(parts)
            validate(cfg, parts, frozen, folder / "results" / ZERO_SHOT / VALIDATION)
            test(cfg, parts, frozen, folder / "results" / ZERO_SHOT, label, None, progress(cfg))
        test(cfg, parts, parts.module, folder / "results" / REFINED, cfg.name, cfg.published, progress(cfg))
    if trainer.is_global_zero:
        publish_run(trainer.loggers, folder, best and best.best_model_path, trainer.global_step)
        show(folder, parts.datamodule.test_sources)
    return float(best.best_model_score) if best and best.best_model_score is not None else None


def evaluate(cfg: DictConfig) -> None:
    """Test given weights, or the frozen features alone; results and figures into the run's folder."""
    checkpoint = None if cfg.checkpoint is None else find_checkpoint(cfg.checkpoint)
    parts = build(cfg, ["test"], checkpoint)
    name = REFINED if parts.module.refiner.trainable else ZERO_SHOT
    if name == REFINED and checkpoint is None:
        raise ValueError("evaluate needs checkpoint=<run folder or weights file>, or refiner=identity (zero-shot)")
    keep_config()
    callbacks, loggers = [*make_group(cfg.callbacks).values()], [*make_group(cfg.logger).values()]
    for logger in loggers:
        logger.log_hyperparams(_plain(cfg))
    trainer = test(cfg, parts, parts.module, output_dir() / "results" / name, cfg.name, cfg.published, callbacks)
    if trainer.is_global_zero:
        publish_run(loggers, output_dir(), None)
        show(output_dir(), parts.datamodule.test_sources)


def validate(cfg: DictConfig, parts: Parts, module: CorrespondenceModule, path: Path) -> None:
    """Scores of a module on the validation sets, upright alone, into a file: where the curves of training start."""
    module.active = tuple(method for method in module.methods if len(method.poses) == 1)
    trainer = make_trainer(cfg, progress(cfg), logger=False)
    trainer.validate(module, datamodule=parts.datamodule, verbose=False)
    module.active = module.methods
    if trainer.is_global_zero:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as new:
            new.write_text(json.dumps({name: float(value) for name, value in trainer.callback_metrics.items()}))


@rank_zero_only
def put_aside(folder: Path) -> None:
    """Rename what an earlier run left in a folder where another starts over: a checkpoint of both would be neither."""
    if not any((folder / FOLDER).glob("*.ckpt")):
        cut(folder, 0)
        return
    count = len(list(folder.glob(f"{FOLDER}-before-*"))) + 1
    for name in ("csv", "results", FOLDER):
        if (folder / name).is_dir():
            (folder / name).rename(folder / f"{name}-before-{count}")
    log.warning("starts from the beginning; what an earlier run left in %s is now *-before-%d there", folder, count)


def test(
    cfg: DictConfig,
    parts: Parts,
    module: CorrespondenceModule,
    folder: Path,
    name: str,
    published: Any,
    callbacks: Sequence[Callback],
) -> Trainer:
    """Test sets by every method of the module, then by a second look where that is on; results go into ``folder``.

    ``name`` is the result's row in tables, ``published`` its neighbour there (a method, or one per method, or None).
    """
    setting = Setting(name, _plain(cfg), _plain(published))
    results, firsts = Results(folder, setting), [FirstLook(folder, parts.look)] if parts.look else []
    trainer = make_trainer(cfg, [*callbacks, *firsts, results], logger=False)
    trainer.test(module, datamodule=parts.datamodule, verbose=False)
    for first in firsts:
        with second_look(cfg, parts, first.method, module, first.looks) as closer:
            make_trainer(cfg, [*progress(cfg), results], logger=False).test(closer, parts.datamodule, verbose=False)
    return trainer


def _plain(config: Any) -> Any:
    """A config node as dictionaries and lists; other values as they are."""
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
