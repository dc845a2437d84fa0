"""What the released code computed: the compact set in tests/golden/data, and the full one beside the project.

Float arrays of the compact set are stored as four planes of bytes, which deflate to 85 % where whole numbers give 92 %.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

SHARED = Path(__file__).parents[3] / "shared"
COMPACT = Path(__file__).parents[1] / "golden" / "data"
MAPS = ("source", "target", "source_flipped", "target_flipped")
"""Descriptor maps ``(3600, 32)`` of a 60×60 grid, row-major: the same four in every file that has them."""


def to_planes(array: np.ndarray) -> np.ndarray:
    """Bytes of float32 ``(…)`` as ``(4, …)``."""
    return np.moveaxis(array.copy()[..., None].view(np.uint8), -1, 0)


def from_planes(planes: np.ndarray) -> np.ndarray:
    """Undo :func:`to_planes`."""
    return np.frombuffer(bytearray(np.moveaxis(planes, 0, -1).tobytes()), np.float32).reshape(planes.shape[1:])


def load_arrays(name: str, compact: bool) -> dict[str, torch.Tensor]:
    """One golden file; of the compact set what was kept, unread rows of maps as zeros."""
    if not compact:
        return load_file(SHARED / "golden" / f"{name}.safetensors")
    arrays: dict[str, np.ndarray] = {}
    with np.load(COMPACT / "released.npz", allow_pickle=False) as stored:
        for key in stored.files:
            file, entry = key.removesuffix(":planes").split("/")
            if file in (name, "maps"):
                arrays[entry] = from_planes(stored[key]) if key.endswith(":planes") else stored[key]
    for part in MAPS:
        rows = arrays.pop(f"{part}_rows", None)
        if rows is not None:  # only these are read
            whole = np.zeros((3600, 32), np.float32)
            whole[rows] = arrays[part]
            arrays[part] = whole
    return {entry: torch.from_numpy(array) for entry, array in arrays.items()}


def load_json(name: str, compact: bool) -> Any:
    """One golden table."""
    return json.loads(((COMPACT if compact else SHARED / "golden") / f"{name}.json").read_text())
