"""DINOv2 and DINOv3 patch tokens through transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from geoalign.backbone.base import Backbone, in_parts, take_frames
from geoalign.backbone.tokens import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    check_image_size,
    normalise,
    parse_dtype,
)
from geoalign.backbone.weights import WeightsError, load_model, load_pretrained, weights_id
from geoalign.blocks import Rest, kept_blocks, plan
from geoalign.blocks.vit import block_list, cut_network, final_norm_of, plain_config, split_tokens
from geoalign.types import Maps

FAMILIES = ("dinov2", "dinov2_with_registers", "dinov3_vit")
FILES = ("config.json", "*.safetensors")


class Dino(Backbone):
    """Patch tokens of one block, without class and register tokens, as one map ``(u c g g)``.

    The defaults are the paper's: DINOv2 ViT-B/14 at 840 px, last block, before the final norm, position
    embedding as torch hub resizes it. Blocks after the chosen one are dropped.

    Args:
        source: hub id, or a local folder in transformers' format
        image_size: px; 840 is 60 patches of 14
        layer: block index; -1: the last
        facet: token: the block's output | key: its attention's keys, heads concatenated
        final_norm: true: after the network's last layer norm; the paper takes the tokens before it
        position_embedding: hub: as torch hub resizes the table | transformers; only DINOv2 without registers differs
        dtype: bfloat16 halves memory and time
        view_batch: views in one forward pass; changes memory only
        compile: torch.compile
        revision: branch, tag or commit of a hub id
        centre: subtract each picture's mean feature, map by map
        debias: directions of a noise picture's features to take out (INSID3: 20 for DINOv3); null: none
        cut: blocks that stay frozen, the rest is for refiner=tail; 0: the embedding, -2: all but two; null: all
    """

    def __init__(
        self,
        source: str = "facebook/dinov2-base",
        image_size: int = 840,
        layer: int = -1,
        facet: Literal["token", "key"] = "token",
        final_norm: bool = False,
        position_embedding: Literal["hub", "transformers"] = "hub",
        grid: int | None = None,
        dtype: str = "float32",
        view_batch: int = 8,
        compile: bool = False,
        revision: str | None = None,
        centre: bool = False,
        debias: int | None = None,
        cut: int | None = None,
    ) -> None:
        """``source`` is a hub id or a local folder in transformers' format; at most ``view_batch`` views at once.

        Raises WeightsError where it is absent, gated or of another architecture, ValueError for wrong settings.
        """
        super().__init__()
        _check_choices(facet, position_embedding, final_norm, view_batch, cut)
        self.compute_dtype, self.view_batch = parse_dtype(dtype), view_batch
        config, self.network = _open(source, revision)
        self.cells = check_image_size(image_size, int(config.patch_size), source)
        self.layer = _checked_layer(layer, int(config.num_hidden_layers))
        if position_embedding == "hub" and config.model_type == "dinov2":
            _resize_positions_as_hub(self.network.embeddings, self.cells)
        weights = weights_id(source, files=FILES, revision=revision)
        self.cut = None if cut is None else kept_blocks(cut, self.layer + 1)
        if self.cut is None:
            _shorten(self.network, self.layer, facet, final_norm)
        else:
            self.rest = _rest(self.network, self.cut, self.layer + 1, final_norm, {"id": source, "hash": weights})
        self.channels = tuple(self.rest.network["inputs"]) if self.rest else (int(config.hidden_size),)
        self.image_sizes = (image_size,)
        self.grid = grid or self.cells
        which = {"layer": self.layer, "facet": facet, "final_norm": final_norm}
        self._settings = {
            **(which if self.cut is None else {"cut": self.cut}),
            "position_embedding": position_embedding if config.model_type == "dinov2" else config.model_type,
            "dtype": dtype,
            "weights": weights,
        }
        for parameter in self.network.parameters():  # not .to(dtype): rotary frequencies stay float32
            parameter.data = parameter.data.to(self.compute_dtype)
        self.adjust(centre, debias)
        self.freeze()
        if compile:
            self.network.compile()

    def extract(self, images: Mapping[int, UInt8[Tensor, "u 3 s s"]]) -> Maps:
        """One map ``(u c g g)``, float32; with a cut the state there, and its other tokens as a map ``(u c 1 t)``."""
        return in_parts(self._maps, take_frames(images, self.image_sizes[0]), self.view_batch)

    def _maps(self, frames: UInt8[Tensor, "u 3 s s"]) -> Maps:
        pixels = normalise(frames, IMAGENET_MEAN, IMAGENET_STD).to(self.compute_dtype)
        maps = split_tokens(self.network(pixel_values=pixels).last_hidden_state.float(), self.cells)
        return maps if self.cut is not None else maps[:1]

    def identity(self) -> dict[str, Any]:
        """Every setting that changes a token, and the weights' hash."""
        return {"name": "dino", "image_size": self.image_sizes[0], **self._settings, **self.adjustments}


class _Keys(nn.Module):
    """The last block reduced to its keys ``(u t c)``, before any rotary embedding."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        modules = {name.rsplit(".", 1)[-1]: module for name, module in block.named_modules()}
        self.norm = block.get_submodule("norm1")
        self.project = modules["k_proj"] if "k_proj" in modules else modules["key"]  # key: transformers 4

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        keys: Tensor = self.project(self.norm(hidden_states))
        return keys


def _check_choices(facet: str, position_embedding: str, final_norm: bool, view_batch: int, cut: int | None) -> None:
    if facet not in ("token", "key"):
        raise ValueError(f"facet is token or key, got {facet!r}")
    if position_embedding not in ("hub", "transformers"):
        raise ValueError(f"position_embedding is hub or transformers, got {position_embedding!r}")
    if facet == "key" and final_norm:
        raise ValueError("the final norm belongs to tokens; set final_norm=false with facet=key")
    if facet == "key" and cut is not None:
        raise ValueError(f"a cut gives tokens; set facet=token, or cut=null, got facet=key with cut={cut}")
    if view_batch < 1:
        raise ValueError(f"view_batch is a positive number of views, got {view_batch}")


def _checked_layer(layer: int, count: int) -> int:
    if not -count <= layer < count:
        raise ValueError(f"this network has blocks 0..{count - 1} (negative ones count from the end), got {layer}")
    return layer % count


def _open(source: str, revision: str | None) -> tuple[Any, Any]:
    """Configuration and whole network."""
    from transformers import AutoConfig, AutoModel

    place: Any = {"files": FILES, "revision": revision, "gated": source.startswith("facebook/dinov3")}
    config = load_pretrained(AutoConfig.from_pretrained, source, **place)
    if config.model_type not in FAMILIES:
        raise WeightsError(
            f"Dino takes {', '.join(FAMILIES)}, {source} is {config.model_type}; "
            "use geoalign.backbone.transformers_generic.TransformersVision for other networks"
        )
    # In float32 first: position embeddings are resized at full precision whatever the dtype.
    return config, load_model(AutoModel.from_pretrained, source, dtype=torch.float32, **place)


def _shorten(network: Any, layer: int, facet: str, final_norm: bool) -> None:
    """Leave the blocks up to ``layer``, so that the network's last hidden state is what is wanted."""
    parent, name = block_list(network)
    blocks = getattr(parent, name)[: layer + 1]
    setattr(parent, name, blocks)
    if facet == "key":
        blocks[layer] = _Keys(blocks[layer])
    if not final_norm and (found := final_norm_of(network)) is not None:
        setattr(*found, nn.Identity())


def _rest(network: Any, cut: int, last: int, final_norm: bool, weights: Mapping[str, str]) -> Rest:
    """Cut the network after ``cut`` blocks; what lies between there and the end of ``last`` blocks."""
    config, tokens = network.config, 1 + int(getattr(network.config, "num_register_tokens", 0))
    made = plan(cut, [last], tokens, dict.fromkeys((cut, last), int(config.hidden_size)))
    facts = {"family": "transformers", **weights, "config": plain_config(config), "normed": final_norm}
    return Rest(facts | made, cut_network(network, cut, last, final_norm))


def _resize_positions_as_hub(embeddings: Any, cells: int) -> None:
    """Replace the table by one for ``cells`` a side, which the network then takes as it is.

    Torch hub's rule: bicubic, no antialias, scale ``(cells + 0.1) / trained``; transformers has no 0.1.
    """
    table: Tensor = embeddings.position_embeddings.detach()
    trained = round((table.shape[1] - 1) ** 0.5)
    if cells == trained:
        return
    square = table[:, 1:].unflatten(1, (trained, trained)).permute(0, 3, 1, 2)
    scale = (cells + 0.1) / trained
    resized = F.interpolate(square, scale_factor=(scale, scale), mode="bicubic", align_corners=False)
    if resized.shape[-1] != cells:
        raise ValueError(
            f"the hub rule gives {resized.shape[-1]} cells for {cells}; set position_embedding=transformers"
        )
    patches = resized.flatten(2).transpose(1, 2)
    embeddings.position_embeddings = nn.Parameter(torch.cat([table[:, :1], patches], dim=1))
