"""Files that hold an aggregation's tensors and no word of how to make it, as the release's: read by their names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from geoalign.refiner.base import CheckpointError

_LAYER = "bottleneck_layers.{}.0."


class Architecture(NamedTuple):
    """What the shapes of an aggregation's tensors say of it; its grid they do not."""

    channels: tuple[int, ...]  # of the frozen maps, in order
    width: int
    hidden: int


def architecture(state: Mapping[str, Tensor], path: str | Path) -> Architecture:
    """Channels, width and hidden channels of an aggregation's ``state``; ``path`` only names it in errors.

    Raises:
        CheckpointError: tensors of something else.
    """
    if "mixing_weights" not in state or state["mixing_weights"].ndim != 1:
        raise CheckpointError(
            f"{path} holds no aggregation weights: expected mixing_weights (maps), the first key is {min(state)}"
        )
    maps = range(len(state["mixing_weights"]))
    first, last = ([_kernel(state, _LAYER.format(i) + name, path) for i in maps] for name in ("conv1", "conv3"))
    widths, hiddens = sorted({shape[0] for shape in last}), sorted({shape[0] for shape in first})
    if len(widths) != 1 or len(hiddens) != 1:
        raise CheckpointError(
            f"{path} is of another architecture: its bottlenecks have widths {widths} and hidden channels {hiddens}, "
            "one of each is expected; give weights of the paper's post-processor"
        )
    return Architecture(tuple(shape[1] for shape in first), widths[0], hiddens[0])


def _kernel(state: Mapping[str, Tensor], layer: str, path: str | Path) -> torch.Size:
    """Shape of a convolution's weight."""
    name = f"{layer}.weight"
    if name not in state or state[name].ndim != 4:
        got = tuple(state[name].shape) if name in state else "nothing"
        raise CheckpointError(
            f"{path}: expected {name} (out in k k), got {got}; give weights of the paper's post-processor"
        )
    return state[name].shape
