"""Refiner weights in and out: runs' checkpoints, the release's ``.pth`` files, safetensors."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

PREFIX = "refiner."


class CheckpointError(ValueError):
    """A weights file is missing, damaged, or of another shape; the message says what to do."""


def find_checkpoint(path: str | Path) -> Path:
    """A weights file itself, or the best checkpoint of a run's folder."""
    path = Path(path)
    if path.is_dir():
        best = path / "checkpoints" / "best.ckpt"
        if best.is_file():
            return best
        raise CheckpointError(
            f"{path} is a folder without checkpoints/best.ckpt; give a run's folder or a weights file"
        )
    if not path.is_file():
        raise CheckpointError(f"no weights at {path}; give a run's folder, a .ckpt, .pth or .safetensors file")
    return path


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The refiner's state from any supported file; nothing in it is executed (``weights_only``)."""
    path = find_checkpoint(path)
    try:
        state = _read(path)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} is not a readable weights file ({reason}); fetch or save it again") from error
    state = state.get("state_dict", state)
    refiner = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)} or state
    if not refiner or not all(isinstance(v, Tensor) for v in refiner.values()):
        raise CheckpointError(f"{path} holds no refiner weights; expected keys such as mixing_weights")
    return refiner


def load_weights(refiner: nn.Module, path: str | Path) -> None:
    """Load strictly; a file of another shape is refused with both shapes named."""
    state, own = read_weights(path), refiner.state_dict()
    missing, extra = sorted(set(own) - set(state)), sorted(set(state) - set(own))
    if missing or extra:
        told = [f"lacks {missing[0]}"] * bool(missing) + [f"also holds {extra[0]}"] * bool(extra)
        raise CheckpointError(f"{path} does not fit the refiner: it {' and '.join(told)}; check refiner and backbone")
    for name, value in own.items():
        if value.shape != state[name].shape:
            want, got = tuple(value.shape), tuple(state[name].shape)
            raise CheckpointError(
                f"{path}: {name} is {got}, the refiner wants {want}; check refiner.width and backbone"
            )
    refiner.load_state_dict(state)


def _read(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(loaded, dict):
        raise ValueError(f"expected a dict of tensors, got {type(loaded).__name__}")
    return loaded
