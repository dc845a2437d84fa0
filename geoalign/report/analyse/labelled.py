"""Folders of images whose pose is known: ``NAME_<pose>.png``, or one folder per pose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from geoalign.data.images import image_size
from geoalign.data.records import DataError, ImageRecord
from geoalign.metrics.robustness import POSES

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


class Labelled(NamedTuple):
    """An image with its pose; images of one ``group`` show the same individual."""

    record: ImageRecord
    pose: int  # index into POSES
    group: str


def read_labelled(folder: Path) -> list[Labelled]:
    """Every image of a folder with its pose, from its name's last part or its subfolder.

    Raises:
        DataError: no such folder, no image, or a pose that is none of left, right, front, back.
    """
    if not folder.is_dir():
        raise DataError.at(folder, "folder", "a folder of images named NAME_<pose>.png", "none", "correct the path")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS)
    if not files:
        raise DataError.at(folder, "images", f"files that end in {', '.join(ENDINGS)}", "none", "correct the path")
    return [_label(folder, path) for path in files]


def check_templates(templates: Sequence[Labelled], where: Path) -> None:
    """Refuse templates that lack a pose."""
    missing = [name for pose, name in enumerate(POSES) if all(t.pose != pose for t in templates)]
    if missing:
        got = f"none of {', '.join(missing)}"
        raise DataError.at(where, "templates", f"at least one each of {', '.join(POSES)}", got, "add images")


def _label(folder: Path, path: Path) -> Labelled:
    name, _, pose = path.stem.rpartition("_")
    if path.parent != folder:
        name, pose = path.stem, path.parent.name
    if pose.lower() not in POSES:
        remedy = "name files NAME_<pose>.png, or use one folder per pose"
        raise DataError.at(path, "pose", f"one of {', '.join(POSES)}", pose or "none", remedy)
    size, none = image_size(path), np.zeros((0, 2), np.float32)
    box = (0.0, 0.0, float(size[1]), float(size[0]))
    record = ImageRecord(str(path.relative_to(folder)), path, size, "image", none, none[:, 0] > 0, box)
    return Labelled(record, POSES.index(pose.lower()), name)
