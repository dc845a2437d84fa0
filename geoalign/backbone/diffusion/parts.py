"""The parts of a diffusers-format Stable Diffusion folder, each loaded alone; never a safety checker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from geoalign.backbone.weights import (
    WeightsError,
    file_id,
    load_model,
    load_pretrained,
    local_file,
    local_folder,
    weights_id,
)
from geoalign.tensors import read_tensors


class Parts(NamedTuple):
    """What a pass needs: models of diffusers, states ``(1 tokens c)`` of the prompt, content hashes of the weights."""

    unet: Any
    vae: Any
    scheduler: Any
    text_states: Tensor
    weights: dict[str, str | None]


def load_parts(
    source: str,
    dtype: torch.dtype,
    *,
    revision: str | None,
    variant: str | None,
    mirrors: Sequence[str],
    unet_weights: str | None,
    prompt: str,
) -> Parts:
    """Everything from a hub id or folder, checked to belong together."""
    files = pipeline_files(variant, unet=unet_weights is None)
    folder = str(local_folder(source, files=files, revision=revision, mirrors=mirrors))
    unet_file = None if unet_weights is None else local_file(unet_weights)
    weights = {
        "folder": weights_id(folder, files=files),
        "unet_weights": None if unet_file is None else file_id(unet_file),
    }
    loaded = Parts(
        load_unet(folder, dtype, unet_file or Path(folder) / files[1]),
        load_vae_encoder(folder, dtype, variant),
        load_scheduler(folder),
        encode_text(folder, prompt, dtype, variant),
        weights,
    )
    _check_fit(loaded)
    return loaded


def pipeline_files(variant: str | None = None, *, unet: bool = True) -> tuple[str, ...]:
    """Files of the folder that are read; ``unet=False`` leaves the UNet's weights out (they come from elsewhere).

    >>> pipeline_files("fp16")[1]
    'unet/diffusion_pytorch_model.fp16.safetensors'
    """
    end = f".{variant}.safetensors" if variant else ".safetensors"
    return (
        "unet/config.json",
        *([f"unet/diffusion_pytorch_model{end}"] if unet else []),
        "vae/config.json",
        f"vae/diffusion_pytorch_model{end}",
        "text_encoder/config.json",
        f"text_encoder/model{end}",
        "tokenizer/*",
        "scheduler/scheduler_config.json",
    )


def load_unet(folder: str, dtype: torch.dtype, weights: Path) -> Any:
    """The UNet of the folder's configuration, whole, with the state in the safetensors file ``weights``.

    Built without memory and filled strictly: gigabytes are neither drawn at random first nor held twice.
    """
    from diffusers import UNet2DConditionModel

    config = load_pretrained(UNet2DConditionModel.load_config, folder, files=["unet/config.json"], subfolder="unet")
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
    try:
        unet.load_state_dict({name: each.to(dtype) for name, each in read_tensors(weights)[0].items()}, assign=True)
    except RuntimeError as error:
        raise WeightsError(
            f"{weights} does not fit {folder}/unet/config.json, it is of another architecture: "
            f"{' '.join(str(error).split())[:300]}; source and unet_weights must be of one Stable Diffusion version"
        ) from error
    return unet


def load_vae_encoder(folder: str, dtype: torch.dtype, variant: str | None = None) -> Any:
    """The autoencoder without its decoder."""
    from diffusers import AutoencoderKL

    # from_pretrained renames the tensors of Stable Diffusion 1.x; without low_cpu_mem_usage it needs no accelerate
    vae = _load(AutoencoderKL, folder, "vae", torch_dtype=dtype, variant=variant, low_cpu_mem_usage=False)
    vae.decoder = vae.post_quant_conv = None
    return vae


def load_scheduler(folder: str) -> Any:
    """The noise schedule; of the scheduler only ``add_noise`` is used, which all of diffusers' share."""
    from diffusers import DDIMScheduler

    files = ["scheduler/scheduler_config.json"]
    return load_pretrained(DDIMScheduler.from_pretrained, folder, files=files, subfolder="scheduler")


def encode_text(folder: str, prompt: str, dtype: torch.dtype, variant: str | None = None) -> Tensor:
    """States ``(1 tokens c)`` of a prompt, padded to the tokenizer's length; the encoder is not kept."""
    from transformers import CLIPTextModel, CLIPTokenizer

    tokenizer = load_pretrained(CLIPTokenizer.from_pretrained, folder, files=["tokenizer/*"], subfolder="tokenizer")
    limit = tokenizer.model_max_length
    if (length := len(tokenizer(prompt).input_ids)) > limit:
        raise ValueError(f"the prompt has {length} tokens, the text encoder takes {limit}; shorten prompt")
    encoder = _load(CLIPTextModel, folder, "text_encoder", dtype=torch.float32, variant=variant).eval()
    tokens = tokenizer(prompt, padding="max_length", max_length=limit, return_tensors="pt")
    with torch.no_grad():
        states: Tensor = encoder(tokens.input_ids)[0]
    return states.to(dtype)


def _check_fit(parts: Parts) -> None:
    want, got = parts.unet.config.cross_attention_dim, parts.text_states.shape[-1]
    if isinstance(want, int) and got != want:
        raise WeightsError(f"the UNet takes text states of {want} channels, text_encoder gives {got}; mixed versions?")
    if parts.unet.config.in_channels != parts.vae.config.latent_channels:
        raise WeightsError(
            f"the UNet takes {parts.unet.config.in_channels} latent channels, the VAE gives "
            f"{parts.vae.config.latent_channels}; set source to a plain text-to-image version (no inpainting or depth)"
        )


def _load(model: Any, folder: str, part: str, **kwargs: Any) -> Any:
    return load_model(model.from_pretrained, folder, files=[f"{part}/*"], subfolder=part, **kwargs)
