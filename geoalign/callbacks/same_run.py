"""Whether a checkpoint is of the run that wants to go on from it: what changes results must be the same."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from lightning import Callback, LightningModule, Trainer

from geoalign.data.datamodule import PairDataModule
from geoalign.files import sha256, short_hash
from geoalign.signatures import flat

log = logging.getLogger(__name__)
RUN = "run"
"""Key of a checkpoint under which :func:`record` lies."""
Rule = Literal["same", "content", "free", "grows"]
RULES: tuple[tuple[str, Rule], ...] = (
    # which pairs are drawn; the other keys of data only lead to the datasets
    *((f"data.{key}", "same") for key in ("sampler.*", "limits.*", "seed", "angles", "primary", "frame", "augment.*")),
    *((f"data.{key}", "free") for key in ("workers", "eval_batch", "eval_views")),
    ("data.*", "content"),
    *((f"backbone.*{key}", "content") for key in ("weights", "source", "captioner", "clip")),
    *((f"backbone.*{key}", "free") for key in ("mirrors", "crop_batch", "view_batch", "compile")),
    ("initial", "content"),
    # names, and where things lie
    *((key, "free") for key in ("name", "published", "paths.*", "logger.*", "resume", "overwrite", "debug")),
    *((f"store.{key}", "free") for key in ("root", "preload", "check")),
    # what draws, reports or saves
    *((f"callbacks.{key}.*", "free") for key in ("progress", "interruption", "telemetry", "figures", "dashboard")),
    ("baseline", "free"),
    # what computes, and how it tells; results differ by rounding
    ("compile", "free"),
    ("refiner.checkpointing", "free"),
    *((f"trainer.{key}", "free") for key in ("accelerator", "devices", "num_nodes", "strategy*", "plugins*")),
    *((f"trainer.{key}", "free") for key in ("deterministic", "benchmark", "detect_anomaly", "profiler*", "enable_*")),
    *((f"trainer.{key}", "free") for key in ("log_every_n_steps", "num_sanity_val_steps", "use_distributed_sampler")),
    ("trainer.max_epochs", "grows"),
    ("*", "same"),
)
"""What must hold of an option when a run goes on; the first pattern that fits counts.

``same``: its value. ``content``: what it leads to, whatever its value (:func:`contents`). ``free``: nothing.
``grows``: it may be larger.
"""


class SameRun(Callback):
    """Puts :func:`record` into every checkpoint.

    Args:
        record: of this run
    """

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = dict(record)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[RUN] = self.record | {"processes": trainer.world_size}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint.get(RUN, self.record)
        before = saved.get("processes", trainer.world_size)
        checkpoint["callbacks"] = _moved(checkpoint.get("callbacks", {}), saved["folder"], self.record["folder"])
        if before != trainer.world_size:
            log.warning("goes on with %d processes, not %d: a step has other pairs", trainer.world_size, before)


def record(config: Mapping[str, Any], folder: Path, content: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What a checkpoint tells of its run in ``folder``: the resolved configuration, and the hashes of its contents."""
    return {"config": flat(config), "content": dict(content or {}), "folder": str(folder)}


def contents(datamodule: PairDataModule, backbone: str, initial: Path | None) -> dict[str, str]:
    """Hashes by option of what lies outside the configuration: datasets, the backbone's weights, the first weights."""
    sources = {"train": datamodule.train_source}
    sources |= {f"val.{name}": source for name, source in datamodule.val_sources.items()}
    sources |= {f"test.{name}": source for name, source in datamodule.test_sources.items()}
    hashes = {
        f"data.{name}": short_hash([source.fingerprint(), sorted((k, list(v)) for k, v in source.symmetries.items())])
        for name, source in sources.items()
        if source is not None
    }
    return hashes | {"backbone": backbone, "initial": sha256(initial) if initial is not None else "none"}


def check(saved: Mapping[str, Any] | None, now: Mapping[str, Any], path: str | Path) -> None:
    """Refuse to go on from a checkpoint's record ``saved`` as the run ``now``; ``path`` only names it.

    Without content in ``now`` (before the parts are built) only the configuration is compared.

    Raises:
        ValueError: something that changes results differs; says what, the value then and the value now.
    """
    if not saved:
        log.warning("%s does not say how it was configured: nothing is compared", path)
        return
    changed = differences(saved, now)
    if changed:
        raise ValueError(
            f"{path} is of another run: {'; '.join(changed)}; undo that, or start a run of its own from these weights: "
            f"initial={path} hydra.run.dir=<another folder>"
        )


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """``key was a, is b`` for everything that changes results."""
    old, new = ({key: _within(value, one["folder"]) for key, value in one["config"].items()} for one in (saved, now))
    moved = {key: _rule(key) for key in sorted({*old, *new}) if old.get(key, "absent") != new.get(key, "absent")}
    told = [_told(key, old, new) for key, rule in moved.items() if rule == "same"]
    told += [_told(key, old, new) for key, rule in moved.items() if rule == "grows" and not _grew(old, new, key)]
    if not now["content"]:
        return told
    before, after = saved["content"], now["content"]
    for part in sorted(part for part in {*before, *after} if before.get(part) != after.get(part)):
        keys = [_told(key, old, new) for key, rule in moved.items() if rule == "content" and key.startswith(part)]
        told += keys or [f"the content of {part} is another ({before.get(part)} was, {after.get(part)} is)"]
    return list(dict.fromkeys(told))


def _told(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    return f"{key} was {old.get(key, 'absent')}, is {new.get(key, 'absent')}"


def _grew(old: Mapping[str, Any], new: Mapping[str, Any], key: str) -> bool:
    """-1 is without end."""
    before, after = old.get(key), new.get(key)
    return after == -1 or (before is not None and after is not None and -1 < before < after)


def _rule(key: str) -> Rule:
    return next(rule for pattern, rule in RULES if fnmatchcase(key, pattern))


def _moved(value: Any, old: str, new: str) -> Any:
    """Paths of the old folder as those of the new one, where they are there: lightning forgets its best otherwise."""
    if isinstance(value, Mapping):
        return {_moved(key, old, new): _moved(one, old, new) for key, one in value.items()}
    there = isinstance(value, str) and value.startswith(old) and Path(value.replace(old, new, 1)).exists()
    return value.replace(old, new, 1) if there else value


def _within(value: Any, folder: str) -> Any:
    """A path in the run's folder by its part below it: the folder may have moved."""
    return value.replace(folder, "<run>", 1) if isinstance(value, str) else value
