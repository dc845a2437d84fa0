"""Vision transformers of transformers as chains of blocks."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from geoalign.blocks.base import Chain

FAMILIES = (
    "dinov2", "dinov2_with_registers", "dinov3_vit", "vit", "deit", "siglip_vision_model", "clip_vision_model",
)  # fmt: skip
"""``model_type`` of networks whose blocks need nothing but the state, and rotary positions where they have them."""
_NORMS = ("layernorm", "norm", "post_layernorm")
_UNUSED = (
    "id2label", "label2id", "architectures", "transformers_version", "dtype", "torch_dtype",
    "out_features", "out_indices", "stage_names",
)  # fmt: skip
_FOREIGN = ("auto_map", "attn_implementation", "quantization_config")
"""Settings by which a file could ask for code or kernels from elsewhere."""


class VitChain(Chain):
    """Blocks of a vision transformer; class and register tokens come first in its state ``(u t+h·w c)``."""

    def __init__(self, network: Mapping[str, Any]) -> None:
        super().__init__(network)
        made = _skeleton(network["config"], self.last - self.cut)
        parent, name = block_list(made)
        self.blocks = nn.ModuleDict({str(self.cut + i): block for i, block in enumerate(getattr(parent, name))})
        found = final_norm_of(made) if network["normed"] else None
        self.norm = getattr(*found) if found is not None else nn.Identity()
        self.to_empty(device=torch.empty(0).device)
        first = next(iter(self.blocks.values()))
        asked = list(inspect.signature(first.forward).parameters.values())[1:]
        self.masks = dict.fromkeys(
            one.name for one in asked if one.default is one.empty and one.kind != one.VAR_KEYWORD
        )
        """What blocks of some families must be told that there is none of."""
        rotary, self.patch = getattr(made, "rope_embeddings", None), int(made.config.patch_size)
        # made anew: its frequencies are no weights, and have no values in a skeleton
        self.rotary = type(rotary)(made.config).eval() if rotary is not None else None

    def train(self, mode: bool = True) -> VitChain:
        """Rotary positions stay as they are: DINOv3 moves them at random in training."""
        super().train(mode)
        if self.rotary is not None:
            self.rotary.eval()
        return self

    def enter(self, state: Float[Tensor, "u c h w"], tokens: Tensor | None) -> Tensor:
        """Tokens before patches, row by row."""
        maps = [state] if tokens is None else [tokens, state]
        return torch.cat([one.flatten(2) for one in maps], dim=2).transpose(1, 2)

    def leave(self, state: Tensor, like: Float[Tensor, "u c h w"]) -> Float[Tensor, "u d i j"]:
        """The patches' part of the state."""
        return split_tokens(state, like.shape[-1])[0]

    def around(self, like: Float[Tensor, "u c h w"]) -> dict[str, Any]:
        """No masks, and rotary positions of a frame of that many cells."""
        if self.rotary is None:
            return self.masks
        h, w = like.shape[-2:]
        frame = like.new_empty(1).expand(1, 3, h * self.patch, w * self.patch)  # only its size is looked at
        return {**self.masks, "position_embeddings": self.rotary(frame)}


def split_tokens(state: Float[Tensor, "u t c"], grid: int) -> tuple[Float[Tensor, "u c g g"], Float[Tensor, "u c 1 p"]]:
    """The last ``grid * grid`` tokens as a map, row-major; class and register tokens, which come first, as another."""
    before = state.shape[1] - grid * grid
    patches = state[:, before:].transpose(1, 2).unflatten(2, (grid, grid))
    return patches.contiguous(), state[:, :before].transpose(1, 2).unsqueeze(2).contiguous()


def block_list(network: nn.Module) -> tuple[nn.Module, str]:
    """The module that holds a network's blocks, and under what name: its longest list of layers."""
    lists = {name: len(one) for name, one in network.named_modules() if isinstance(one, nn.ModuleList)}
    name = max((name for name in lists if name.rpartition(".")[2] in ("layer", "layers")), key=lists.__getitem__)
    parent, _, last = name.rpartition(".")
    return network.get_submodule(parent), last


def final_norm_of(network: nn.Module) -> tuple[nn.Module, str] | None:
    """The module that holds a network's last norm, and under what name."""
    holders = [network, *(one for name, one in network.named_children() if name == "vision_model")]
    found = [(holder, name) for holder in holders for name in _NORMS if name in dict(holder.named_children())]
    return found[0] if found else None


def cut_network(network: Any, cut: int, last: int, normed: bool) -> dict[str, Tensor]:
    """Leave ``cut`` blocks and no last norm, so that the last hidden state is that at the cut; a chain's weights."""
    parent, name = block_list(network)
    blocks = getattr(parent, name)
    behind = {f"blocks.{i}.{key}": value for i in range(cut, last) for key, value in blocks[i].state_dict().items()}
    setattr(parent, name, blocks[:cut])
    if (found := final_norm_of(network)) is not None:
        norm = getattr(*found).state_dict() if normed else {}
        behind |= {f"norm.{key}": value for key, value in norm.items()}
        setattr(*found, nn.Identity())
    return behind


def plain_config(config: Any) -> dict[str, Any]:
    """A transformers config as plain data, but for what names labels and versions."""
    settings = json.loads(json.dumps(config.to_diff_dict(), default=str))
    return {k: v for k, v in settings.items() if k not in (*_UNUSED, *_FOREIGN) and not k.startswith("_")}


def check_family(model_type: str) -> None:
    """Refuse families that were not tested.

    Raises:
        ValueError: one of them.
    """
    if model_type not in FAMILIES:
        raise ValueError(f"a cut is for networks of {', '.join(FAMILIES)}, got {model_type}; set backbone.cut=null")


def _skeleton(config: Mapping[str, Any], blocks: int) -> Any:
    """The network of a config with so many blocks, in no memory."""
    from transformers import AutoConfig, AutoModel

    check_family(str(config.get("model_type")))
    known = {k: v for k, v in config.items() if k not in _FOREIGN and not k.startswith("_")}
    made = AutoConfig.for_model(**{**known, "num_hidden_layers": blocks})
    with torch.device("meta"):
        return AutoModel.from_config(made)
