"""A run's checkpoints as files: the last one and the one before, checked when they are read."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from geoalign.files import FileError, open_regular

log = logging.getLogger(__name__)

FOLDER = "checkpoints"
"""Where a run's folder has them."""
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


def publish(partial: Path, folder: Path) -> None:
    """Make a finished file the last checkpoint and keep the one before; a crash at any point leaves a whole one."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    last = folder / LAST
    if last.exists():
        os.replace(last, folder / PREVIOUS)
    os.replace(partial, last)


def read_checkpoint(path: str | Path) -> Mapping[str, Any]:
    """A run's checkpoint as plain data, on the CPU; nothing in it is executed.

    PyTorch's files carry a CRC-32 of each of their parts, which its own loader does not compare: it is compared here.

    Raises:
        FileError: not there, damaged, or not the checkpoint of a run.
    """
    expected = "the checkpoint of a run"
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as parts:
            damaged = parts.testzip()
        if damaged is None:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FileError(path, expected, reason, "take an older one") from error
    if damaged is not None:
        raise FileError(path, expected, f"damage in {damaged} (its checksum differs)", "take an older one")
    if not isinstance(content, Mapping) or "global_step" not in content:
        raise FileError(path, expected, "no global_step in it", "give checkpoints/last.ckpt of a run's folder")
    return content


def last_good(folder: Path) -> Path | None:
    """The newest checkpoint of a run's folder that is whole; None where there is none."""
    for name in (LAST, PREVIOUS):
        path = folder / FOLDER / name
        try:
            if path.exists():
                read_checkpoint(path)
                return path
        except FileError as error:
            log.warning("%s; looking for an older one", error)
    return None
