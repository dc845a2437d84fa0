"""A run's folder belongs to one run at a time: a lock that dies with its process, and the owner's name in it."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

log = logging.getLogger(__name__)
NAME = "run.lock"
RUNNING, STOPPED, FINISHED = "running", "stopped", "finished"
_HELD: set[Path] = set()
"""Folders of this process, which the system's lock does not keep apart from itself."""


class ClaimError(ValueError):
    """The folder is another run's."""


@contextmanager
def claimed(folder: Path, again: bool, remedy: str = "overwrite=true starts over") -> Iterator[None]:
    """Hold ``folder`` while the body runs; a finished run's only ``again``, else ``remedy`` says what to do.

    ``run.lock`` in it tells host, process, start and state as JSON, and is locked while the run lives. The system
    takes the lock from a process that dies in any way. It is POSIX's, not that of the package filelock (flock): that
    one would live on in the loader's forked workers. Of a run of several processes, the first one claims for all.

    Raises:
        ClaimError: a live run holds it, one on another machine did not say that it ended, or it is finished.
    """
    folder = folder.resolve()
    if any(int(os.environ.get(rank) or 0) for rank in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK")):
        yield
        return
    old = not (folder / NAME).exists() and any(folder.glob("results/*/summary.json"))  # older than this file
    folder.mkdir(parents=True, exist_ok=True)
    with open(os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+b", buffering=0) as file:
        _lock(file, folder)
        before = _read(file) or ({"state": FINISHED} if old else {})
        _check(folder, before, again, remedy)
        _HELD.add(folder)
        _write(file, owner := _owner())
        try:
            yield
            owner["state"] = STOPPED if (folder / "FAILED").exists() else FINISHED
        except BaseException:
            owner["state"] = FINISHED if before.get("state") == FINISHED else STOPPED
            raise
        finally:
            _write(file, owner | {"ended": _now()})
            _HELD.discard(folder)


def _lock(file: BinaryIO, folder: Path) -> None:
    try:
        if folder in _HELD:
            raise BlockingIOError
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise ClaimError(
            f"{folder}: expected a folder that no run is using, got that of {_name(_read(file))}; "
            "wait for it, or set hydra.run.dir=<another folder>"
        ) from error
    except OSError as error:  # a file system without locks
        log.warning("%s cannot be locked (%s): two runs in it would not notice each other", folder, error.strerror)


def _check(folder: Path, before: dict[str, Any], again: bool, remedy: str) -> None:
    state, own = before.get("state"), _owner()
    if state == FINISHED and not again:
        raise ClaimError(f"{folder}: expected a folder without a finished run, got one; {remedy}")
    if state != RUNNING:
        return
    # locks of network file systems do not always reach other machines; a requeued job is the same run anywhere
    same = [key for key in ("host", "boot", "slurm_job") if before.get(key) and before.get(key) == own[key]]
    if not same:
        raise ClaimError(
            f"{folder}: expected a folder that no run is using, got that of {_name(before)}, on another machine, which "
            f"has not said that it ended; if it is gone, remove {folder / NAME}"
        )
    log.warning("%s did not end by itself; its folder is taken over", _name(before))


def _owner() -> dict[str, Any]:
    boot = Path("/proc/sys/kernel/random/boot_id")  # containers of one machine share it, whatever their host names
    return {
        "state": RUNNING,
        "host": socket.gethostname(),
        "boot": boot.read_text().strip() if boot.is_file() else None,
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "pid": os.getpid(),
        "started": _now(),
        "command": sys.argv,
    }


def _name(owner: dict[str, Any]) -> str:
    return f"process {owner.get('pid', '?')} on {owner.get('host', '?')}, started {owner.get('started', '?')}"


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _read(file: BinaryIO) -> dict[str, Any]:
    """Empty where a kill left it in part."""
    try:
        owner = json.loads(file.read(1 << 16))
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _write(file: BinaryIO, owner: dict[str, Any]) -> None:
    text = json.dumps(owner, indent=1).encode() + b"\n"
    os.pwrite(file.fileno(), text, 0)
    os.ftruncate(file.fileno(), len(text))
    os.fsync(file.fileno())
