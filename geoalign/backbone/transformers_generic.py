"""Any vision network of transformers that gives patch tokens or feature maps."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from geoalign.backbone.base import Backbone, in_parts, take_frames
from geoalign.backbone.tokens import check_image_size, normalise, parse_dtype
from geoalign.backbone.transformers_cut import cut_maps, cut_vision, proven
from geoalign.backbone.weights import load_model, local_folder, weights_id
from geoalign.blocks.vit import check_family, split_tokens
from geoalign.files import read_json
from geoalign.types import Maps

FILES = ("*.json", "*.safetensors")
_MOST_PREFIX_TOKENS = 16  # class, distillation and register tokens; more means the count was read wrongly


class TransformersVision(Backbone):
    """Hidden states of any ``AutoModel`` with an image side, one map each.

    Tokens before the patches are recognised by their number. Without a cut the whole network runs, as networks differ
    too much inside; with one, what lies behind it is compared with the whole network on noise.

    Args:
        source: hub id or a local folder
        image_size: px, a multiple of its patch
        layers: indices of hidden states (0: the embeddings), as [-1] or [6, 12]; null: the last one, mostly normed
        grid: cells a side; null: of the finest map
        mean: of the pixels; null: as preprocessor_config.json says
        std: of the pixels; null: as preprocessor_config.json says
        dtype: float32, bfloat16 or float16
        view_batch: views in one forward pass; changes memory only
        revision: branch, tag or commit of a hub id
        centre: subtract each picture's mean feature, map by map
        debias: directions of a noise picture's features to take out (INSID3: 20 for DINOv3); null: none
        cut: blocks that stay frozen, the rest is for refiner=tail; 0: the embedding, -2: all but two; null: all
    """

    def __init__(
        self,
        source: str,
        image_size: int,
        layers: Sequence[int] | None = None,
        grid: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        dtype: str = "float32",
        view_batch: int = 8,
        revision: str | None = None,
        centre: bool = False,
        debias: int | None = None,
        cut: int | None = None,
    ) -> None:
        """Runs one black frame to learn the maps; WeightsError for the weights, ValueError for the settings."""
        super().__init__()
        self.compute_dtype, self.view_batch = torch.float32, view_batch
        self.mean, self.std = (mean, std) if mean and std else _statistics(source, revision)
        self.network = _load(source, revision)
        self.patch = _patch(self.network.config)
        if self.patch:
            check_image_size(image_size, self.patch, source)
        self.layers = None if layers is None else tuple(layers)
        self.image_sizes = (image_size,)
        self.cut, weights = cut, weights_id(source, files=FILES, revision=revision)
        self.freeze()
        if cut is not None:
            self._cut_behind(cut, source, weights)
        self.compute_dtype = parse_dtype(dtype)
        self.network = self.network.to(self.compute_dtype)
        probe = self._probe(source)
        self.channels = tuple(one.shape[1] for one in probe)
        self.grid = grid or max(one.shape[-1] for one in probe)
        self.adjust(centre, debias)
        self._settings = {
            "layers": None if self.layers is None else list(self.layers),
            "mean": list(self.mean),
            "std": list(self.std),
            "dtype": dtype,
            "weights": weights,
            **({} if cut is None else {"cut": cut}),
        }

    def extract(self, images: Mapping[int, UInt8[Tensor, "u 3 s s"]]) -> Maps:
        """Maps ``(u c_i h_i w_i)`` of the layers, float32."""
        return in_parts(self._maps, take_frames(images, self.image_sizes[0]), self.view_batch)

    def _maps(self, frames: UInt8[Tensor, "u 3 s s"]) -> list[Tensor]:
        if self.rest is not None:
            got = self._run(frames, output_hidden_states=True)
            return cut_maps(self.rest, got.hidden_states, got.last_hidden_state)
        every = self._states(frames)
        chosen = (-1,) if self.layers is None else self.layers
        if not all(-len(every) <= layer < len(every) for layer in chosen):
            raise ValueError(f"layers index {len(every)} hidden states, got {list(chosen)}")
        return [state_to_map(every[layer].float(), self.image_sizes[0], self.patch) for layer in chosen]

    def _states(self, frames: UInt8[Tensor, "u 3 s s"]) -> tuple[Tensor, ...]:
        if self.layers is None:
            return (self._run(frames).last_hidden_state,)
        return tuple(self._run(frames, output_hidden_states=True).hidden_states)

    def _run(self, frames: UInt8[Tensor, "u 3 s s"], **options: Any) -> Any:
        arguments: dict[str, Any] = {"pixel_values": normalise(frames, self.mean, self.std).to(self.compute_dtype)}
        if "interpolate_pos_encoding" in inspect.signature(self.network.forward).parameters:
            arguments["interpolate_pos_encoding"] = True
        return self.network(**arguments, **options)

    @torch.no_grad()
    def _cut_behind(self, cut: int, source: str, weights: str) -> None:
        """Leave the blocks before ``cut``, checked on noise against the whole network."""
        check_family(self.network.config.model_type)
        size = self.image_sizes[0]
        noise = torch.randint(256, (1, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        self._probe(source)
        whole = tuple(self._maps(noise))
        tokens = self._run(noise).last_hidden_state.shape[1] - whole[0].shape[-1] ** 2
        self.rest = cut_vision(self.network, cut, self.layers, tokens, {"id": source, "hash": weights})
        self.rest = proven(self.rest, tuple(self._maps(noise)), whole)

    @torch.no_grad()
    def _probe(self, source: str) -> list[Tensor]:
        size = self.image_sizes[0]
        frames = torch.zeros(1, 3, size, size, dtype=torch.uint8)
        try:
            self._run(frames)
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            raise ValueError(
                f"{source} does not run on images of {size} px ({reason}); set image_size to one that it takes"
            ) from error
        return self._maps(frames)

    def identity(self) -> dict[str, Any]:
        """Every setting that changes a map, and the weights' hash."""
        return {"name": "transformers", "image_size": self.image_sizes[0], **self._settings, **self.adjustments}


def state_to_map(state: Tensor, image_size: int, patch: int | None = None) -> Tensor:
    """Hidden state of a square image as ``(u c h w)``: tokens ``(u t c)``, or a map with channels first or last."""
    if state.ndim == 4 and state.shape[2] == state.shape[3]:
        return state.contiguous()
    if state.ndim == 4 and state.shape[1] == state.shape[2]:
        return state.permute(0, 3, 1, 2).contiguous()
    if state.ndim != 3:
        raise ValueError(f"expected tokens (u t c) or square maps (u c h w), got {tuple(state.shape)}; choose layers")
    count = state.shape[1]
    grid = image_size // patch if patch else math.isqrt(count)
    if not 0 <= count - grid * grid <= _MOST_PREFIX_TOKENS:
        grid = math.isqrt(count)  # stages that merge patches have fewer tokens than the image has patches
    if count - grid * grid > _MOST_PREFIX_TOKENS:
        raise ValueError(f"{count} tokens are no square of patches with at most {_MOST_PREFIX_TOKENS} tokens before it")
    return split_tokens(state, grid)[0]


def _load(source: str, revision: str | None) -> Any:
    """The network, or the image side of one that also reads text."""
    from transformers import AutoModel

    network = load_model(AutoModel.from_pretrained, source, files=FILES, revision=revision, dtype=torch.float32)
    vision = getattr(network, "vision_model", network)
    if vision.main_input_name != "pixel_values":
        raise ValueError(f"{source} is a {type(network).__name__}, which takes no images; choose a vision network")
    return vision


def _patch(config: Any) -> int | None:
    patch = getattr(config, "patch_size", None)
    if isinstance(patch, (list, tuple)):
        patch = patch[0]
    return int(patch) if patch else None


def _statistics(source: str, revision: str | None) -> tuple[list[float], list[float]]:
    name = "preprocessor_config.json"
    settings = read_json(local_folder(source, files=(name,), revision=revision) / name)
    if "image_mean" not in settings or "image_std" not in settings:
        raise ValueError(f"{source}/{name} has no image_mean and image_std; set mean and std")
    return list(settings["image_mean"]), list(settings["image_std"])
