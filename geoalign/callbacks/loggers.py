"""Dashboards as loggers: wandb and TensorBoard get a run's main numbers, under a name that its settings give it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment

from geoalign.keys import is_main

Keys = Literal["main", "all"]
UNSAID = ("paths", "hydra", "logger", "callbacks", "trainer", "store", "launcher", "sweep", "experiment")
UNSAID_OPTIONS = ("name", "resume", "overwrite", "debug", "baseline", "compile", "data.root", "data.workers")
"""Groups and options that say nothing of what a run computes, or that its name says already."""
MOST_CHARACTERS = 100
DEFINED: dict[str, Any] = {"step_metric": "trainer/global_step", "step_sync": True, "summary": "none"}
"""How wandb treats what is logged: over the step, and no last value of it in the summary."""


class WandbLog(WandbLogger):
    """Lightning's logger with a choice of keys, and a summary of what is put there, not of every last value."""

    def __init__(self, keys: Keys, summary: int | None, settings: Mapping[str, str], **options: Any) -> None:
        super().__init__(**options)
        self.keys, self.most, self.settings = keys, summary, dict(settings)
        self.summarised: set[str] = set()
        self.defined: set[str] = set()

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        begins, run = self._experiment is None, super().experiment
        if begins:
            run.define_metric("*", **DEFINED)
            run.define_metric(DEFINED["step_metric"], summary="none")  # lightning names it, so no * stands for it
            if self.settings:
                run.config.update({"set": self.settings}, allow_val_change=True)  # the columns of a sweep's table
        return run

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Those of the chosen keys; pictures and tables come this way too."""
        if shown := _shown(metrics, self.keys):
            self._define(shown)
            super().log_metrics(shown, step)

    def _define(self, keys: Iterable[str]) -> None:
        """A ``*`` stands for no name with a dot, as ``pck@0.10``: these are named one by one, the dot escaped."""
        for key in keys:
            if "." in key and key not in self.defined:
                self.experiment.define_metric(key.replace(".", r"\."), **DEFINED)
                self.defined.add(key)

    def summarise(self, values: Mapping[str, float]) -> None:
        """Put values into the run's summary, in their order, until it is full."""
        shown = _shown(values, self.keys)
        room = len(shown) if self.most is None else self.most - len(self.summarised - set(shown))
        chosen = dict(list(shown.items())[: max(0, room)])
        self.summarised |= set(chosen)
        self.experiment.summary.update(chosen)


class TensorBoardLog(TensorBoardLogger):
    """Lightning's logger with a choice of keys; every attempt of a run writes a file of its own beside the others.

    TensorBoard knows no ``@`` in a name: ``pck@0.10`` is ``pck_0.10`` there.

    Args:
        save_dir: the run's folder
        keys: main: losses, rates and the PCKs that are usually looked at; all: every logged number

    Raises:
        ImportError: tensorboardX is not installed.
    """

    def __init__(self, save_dir: str, keys: Keys = "main") -> None:
        _check(keys)
        try:
            super().__init__(save_dir, name="", version="tensorboard", default_hp_metric=False)
        except ModuleNotFoundError as error:
            raise ImportError("logger=tensorboard needs tensorboardX; pip install 'geoalign[tensorboard]'") from error
        self.keys = keys

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Those of the chosen keys."""
        shown = {key.replace("@", "_"): value for key, value in _shown(metrics, self.keys).items()}
        super().log_metrics(shown, step)


def wandb_logger(
    save_dir: str,
    run: str = "",
    overrides: Sequence[str] = (),
    sweep: str = "",
    name: str | None = None,
    group: str | None = None,
    keys: Keys = "main",
    summary: int | None = 40,
    **options: Any,
) -> WandbLog:
    """A wandb logger for a run's folder: the same wandb run when it goes on; offline where there is no login.

    Args:
        save_dir: the run's folder
        run: what the name begins with
        overrides: settings of the command line, which the name goes on with
        sweep: folder of a sweep; its jobs are a group
        name: of the run; null: made of its settings
        group: runs side by side; null: the jobs of a sweep, else the seeds of one setting
        keys: main: losses, rates and the PCKs that are usually looked at; all: every logged number
        summary: keys of the summary at most; null: no limit. Files hold all
        **options: wandb's own, such as project, tags and job_type
    """
    _check(keys)
    settings = said(overrides)
    own_group = Path(sweep).name if sweep and Path(save_dir).is_relative_to(sweep) else None
    seedless = {key: value for key, value in settings.items() if key != "seed"}
    options |= {
        "save_dir": save_dir,
        "name": name or title(run, settings),
        "group": group or (f"{run} {own_group}" if own_group else title(run, seedless)),
    }
    if not logged_in():
        return WandbLog(keys, summary, settings, offline=True, **options)
    own = hashlib.sha256(str(Path(save_dir).resolve()).encode()).hexdigest()[:12]
    return WandbLog(keys, summary, settings, version=own, resume="allow", **options)


def said(overrides: Sequence[str]) -> dict[str, str]:
    """The settings among a command line's words that tell what a run computes.

    >>> said(["matcher.radius=2", "+sweep=window", "paths.root=/x", "seed=1", "trainer.max_epochs=4"])
    {'matcher.radius': '2', 'seed': '1', 'trainer.max_epochs': '4'}
    """
    pairs = [word.lstrip("+").partition("=")[::2] for word in overrides if "=" in word]
    return {
        key: value
        for key, value in pairs
        if key == "trainer.max_epochs" or (key.split(".")[0] not in UNSAID and key not in UNSAID_OPTIONS)
    }


def title(run: str, settings: Mapping[str, str]) -> str:
    """A name for a dashboard: the run's, and its settings by the last parts of their names where these are enough.

    >>> title("train", {"matcher.radius": "2", "loss.dense.matcher.radius": "3", "seed": "1"})
    'train matcher.radius=2 loss.dense.matcher.radius=3 seed=1'
    >>> title("train", {"optimizer.lr": "1e-3"})
    'train lr=1e-3'
    """
    last = [key.rpartition(".")[2] for key in settings]
    short = [end if last.count(end) == 1 else key for key, end in zip(settings, last, strict=True)]
    text = " ".join([run, *(f"{key}={value}" for key, value in zip(short, settings.values(), strict=True))]).strip()
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"


def logged_in() -> bool:
    """Whether wandb may go online: ``WANDB_MODE`` decides, else a key in the environment or in ``~/.netrc``."""
    if mode := os.environ.get("WANDB_MODE"):
        return mode == "online"
    from requests.utils import get_netrc_auth  # wandb needs it as well

    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    return bool(os.environ.get("WANDB_API_KEY") or get_netrc_auth(host))


def show_picture(logger: Any, key: str, path: Path, step: int) -> None:
    """Send a picture file to a dashboard; other loggers have no place for it."""
    if isinstance(logger, WandbLogger):
        logger.log_image(key, [str(path)])
    elif isinstance(logger, TensorBoardLogger):
        import numpy as np

        from geoalign.data.images import open_rgb

        logger.experiment.add_image(key, np.asarray(open_rgb(path)), step, dataformats="HWC")


def _shown(metrics: Mapping[str, Any], keys: Keys) -> dict[str, Any]:
    return {key: value for key, value in metrics.items() if keys == "all" or is_main(key)}


def _check(keys: str) -> None:
    if keys not in ("main", "all"):
        raise ValueError(f"a dashboard's keys are main or all, got {keys!r}")
