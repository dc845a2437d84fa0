"""Files that hold tensors and no word of how to make what they are of, as releases do: read by their names.

The paper's post-processor (also DIY-SC's, which keeps its names), and MARCO's adapters and head.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from geoalign.refiner.base import CheckpointError

MARCO = "MARCO's adapters and head, which go on from DINOv2-L with registers"
_ADAPTER = re.compile(r"dino\.blocks\.(\d+)\.adapter\.(adapter_layer_norm_before|down_proj|up_proj)\.(weight|bias)")
_UPSCALE = re.compile(r"upscale\.(\d+)\.(conv1|conv2|norm)\.(weight|bias)")
_ADAPTERS = {"adapter_layer_norm_before": "norm", "down_proj": "down", "up_proj": "up"}
_STEPS = {"conv1": 0, "conv2": 2, "norm": 3}
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
    if is_marco(state):
        raise CheckpointError(
            f"{path} holds {MARCO}: it is no model by itself; evaluate it with experiment=released/marco "
            f"checkpoint={path}"
        )
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


def is_marco(state: Mapping[str, object]) -> bool:
    """Whether tensors have the names of MARCO's release."""
    return any(_ADAPTER.fullmatch(name) for name in state)


def renamed_marco(state: Mapping[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """MARCO's tensors under the names of an up-sampling head on a tail with adapters.

    Blocks keep their numbers; a doubling of the head is four layers, of which the second has no tensors.

    Raises:
        CheckpointError: a tensor that is neither an adapter's nor the head's.
    """
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        if block := _ADAPTER.fullmatch(name):
            renamed[f"within.chain.blocks.{block[1]}.adapter.{_ADAPTERS[block[2]]}.{block[3]}"] = value
        elif step := _UPSCALE.fullmatch(name):
            renamed[f"layers.{4 * int(step[1]) + _STEPS[step[2]]}.{step[3]}"] = value
        else:
            raise CheckpointError(f"{path} is of MARCO, and also holds {name}; expected its adapters and head alone")
    return renamed


def _kernel(state: Mapping[str, Tensor], layer: str, path: str | Path) -> torch.Size:
    """Shape of a convolution's weight."""
    name = f"{layer}.weight"
    if name not in state or state[name].ndim != 4:
        got = tuple(state[name].shape) if name in state else "nothing"
        raise CheckpointError(
            f"{path}: expected {name} (out in k k), got {got}; give weights of the paper's post-processor"
        )
    return state[name].shape
