"""The implicit captioner: CLIP's view of a crop as text states and as a term of the time embedding.

Its eight tensors were trained with ODISE and are not shipped; take them out of the official checkpoint with
``python -m geoalign.backbone.captioner convert odise_checkpoint.pth captioner.safetensors``.
"""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoalign.backbone.weights import WeightsError, file_id, load_model, weights_id
from geoalign.files import check_output, replacing
from geoalign.tensors import fault, read_tensors

PREFIX = "backbone.feature_extractor."

#: Tensors and their shapes: ``t`` tokens of ``d`` channels, ``m`` channels of the time embedding, ``e`` of CLIP.
SHAPES = {
    "alpha_cond": "1 t d",
    "alpha_cond_time_embed": "m",
    "clip_project.linear.weight": "d e",
    "clip_project.linear.bias": "d",
    "clip_project.positional_embedding": "1 t d",
    "time_embed_project.linear.weight": "m e",
    "time_embed_project.linear.bias": "m",
    "time_embed_project.positional_embedding": "1 1 m",
}

_CLIP_FILES = ("config.json", "model.safetensors|pytorch_model.bin")
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class Captioner(nn.Module):
    """``cond = text("") + tanh(alpha_cond) (clip_project(e) + positional)``, and alike for the time embedding.

    ``clip`` is a ``CLIPVisionModelWithProjection``, ``e`` its projected class token, not normalised; ``tensors`` are
    the eight of :data:`SHAPES`; ``identity`` is plain data that names both.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, clip: Any, tensors: Mapping[str, Tensor], identity: Any = None) -> None:
        super().__init__()
        sizes = check_shapes(tensors)
        if (width := clip.config.projection_dim) != sizes["e"]:
            raise WeightsError(
                f"the captioner was trained on CLIP features of {sizes['e']} channels, clip gives {width}; set clip to "
                "openai/clip-vit-large-patch14-336 or a folder of it"
            )
        self.clip: Any = clip
        self.sizes, self.identity = sizes, identity
        self.tensors = nn.ParameterDict({_flat(name): nn.Parameter(tensors[name], False) for name in SHAPES})
        self.register_buffer("pixel_mean", torch.tensor(_CLIP_MEAN)[:, None, None], persistent=False)
        self.register_buffer("pixel_std", torch.tensor(_CLIP_STD)[:, None, None], persistent=False)

    @classmethod
    def load(cls, file: str | Path, clip: str, dtype: torch.dtype = torch.float32) -> Captioner:
        """From a converted file, and a hub id or folder of CLIP ViT-L/14-336."""
        from transformers import CLIPVisionModelWithProjection

        if not Path(file).is_file():
            raise WeightsError(
                f"no captioner file {file}; make it with `python -m geoalign.backbone.captioner convert "
                "odise_checkpoint.pth captioner.safetensors`, or set captioner to null"
            )
        tensors, _ = read_tensors(file)
        check_shapes(tensors)
        model = load_model(
            CLIPVisionModelWithProjection.from_pretrained, clip, files=_CLIP_FILES, dtype=dtype, use_safetensors=None
        )
        identity = {"file": file_id(file), "clip": weights_id(clip, files=_CLIP_FILES)}
        return cls(model, {name: tensor.to(dtype) for name, tensor in tensors.items()}, identity)

    def forward(self, pixels: Tensor, text_states: Tensor) -> tuple[Tensor, Tensor]:
        """Text states ``(u t d)`` and time term ``(u m)`` for pixels ``(u 3 h w)`` in [0, 1]."""
        embedding = self.embed(pixels)
        implicit = self._project("clip_project", "alpha_cond", embedding)
        time_term = self._project("time_embed_project", "alpha_cond_time_embed", embedding)
        return text_states + implicit, time_term[:, 0]

    def embed(self, pixels: Tensor) -> Tensor:
        """CLIP's projected class token ``(u e)``; resized bicubic without antialias, as the captioner was trained."""
        side = self.clip.config.image_size
        resized = F.interpolate(pixels, (side, side), mode="bicubic", align_corners=False, antialias=False)
        normalised = (resized - self.pixel_mean) / self.pixel_std
        embedding: Tensor = self.clip(normalised.to(self.tensors["alpha_cond"].dtype)).image_embeds
        return embedding

    def check_fit(self, text_states: Tensor, time_channels: int) -> None:
        """The captioner must fit the text states ``(1 t d)`` and the width of the UNet's time embedding."""
        want = (self.sizes["t"], self.sizes["d"], self.sizes["m"])
        got = (*text_states.shape[1:], time_channels)
        if want != got:
            raise WeightsError(
                f"the captioner is for {want[0]} tokens of {want[1]} channels and a time embedding of {want[2]}, this "
                f"Stable Diffusion has {got[0]} of {got[1]} and {got[2]}; it fits SD 1.x only, or set captioner to null"
            )

    def _project(self, part: str, alpha: str, embedding: Tensor) -> Tensor:
        weight, bias, position = (self.tensors[_flat(f"{part}.{name}")] for name in _PROJECTION)
        projected = F.linear(embedding, weight, bias)[:, None] + position
        return torch.tanh(self.tensors[alpha]) * projected


_PROJECTION = ("linear.weight", "linear.bias", "positional_embedding")


def check_shapes(tensors: Mapping[str, Any]) -> dict[str, int]:
    """The sizes ``t d m e`` that all eight shapes agree on."""
    if missing := sorted(set(SHAPES) - set(tensors)):
        raise WeightsError(f"a captioner has {len(SHAPES)} tensors, {', '.join(missing)} absent; convert it again")
    sizes: dict[str, int] = {"1": 1}
    for name, letters in SHAPES.items():
        if reason := fault(tensors[name]):
            raise WeightsError(f"{name} is {reason}, expected finite numbers; convert it again")
        shape = tuple(tensors[name].shape)
        expected = letters.split()
        known = [sizes.setdefault(letter, got) for letter, got in zip(expected, shape, strict=False)]
        if len(shape) != len(expected) or tuple(known) != shape:
            raise WeightsError(f"{name} has shape {shape}, expected ({letters}) with {sizes}; convert it again")
    return sizes


def convert(source: str | Path, target: str | Path) -> dict[str, Tensor]:
    """Write the eight tensors of an ODISE checkpoint as safetensors; nothing in the checkpoint is executed."""
    from safetensors.torch import save_file

    state = _read_checkpoint(Path(source))
    found = {name: state[PREFIX + name] for name in SHAPES if PREFIX + name in state}
    if len(found) < len(SHAPES):
        missing = sorted(PREFIX + name for name in set(SHAPES) - set(found))
        raise WeightsError(
            f"{source} is not an ODISE checkpoint with implicit captioner: {len(missing)} of {len(SHAPES)} tensors are "
            f"absent under 'model', the first: {missing[0]}"
        )
    check_shapes(found)
    tensors = {name: tensor.float().contiguous() for name, tensor in found.items()}
    if not Path(target).parent.is_dir():
        raise WeightsError(f"no folder {Path(target).parent} to write {target} into; make it first")
    check_output(target, [source], force=True)
    with replacing(target) as partial:  # a killed conversion leaves no half file under the final name
        save_file(tensors, partial, metadata={"geoalign": "implicit captioner"})
    return tensors


def _read_checkpoint(path: Path) -> Mapping[str, Any]:
    content, _ = read_tensors(path, mmap=zipfile.is_zipfile(path))
    state = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping):
        keys = list(content)[:5] if isinstance(content, Mapping) else type(content).__name__
        raise WeightsError(f"{path} has no 'model' entry (found {keys}); give the official ODISE checkpoint")
    return state


def _flat(name: str) -> str:
    """Parameter names may not hold dots."""
    return name.replace(".", "_")


def main(arguments: Sequence[str] | None = None) -> int:
    """``convert IN.pth OUT.safetensors``; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m geoalign.backbone.captioner", description=__doc__)
    command = parser.add_subparsers(required=True).add_parser("convert", help="take the captioner out of a checkpoint")
    command.add_argument("source", metavar="IN.pth")
    command.add_argument("target", metavar="OUT.safetensors")
    options = parser.parse_args(arguments)
    try:
        tensors = convert(options.source, options.target)
    except ValueError as error:
        parser.exit(1, f"error: {error}\n")
    for name, tensor in tensors.items():
        print(f"{name:42} {tuple(tensor.shape)}")
    print(f"wrote {options.target}; use it with backbone.captioner={options.target}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
