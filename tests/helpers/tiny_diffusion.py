"""Tiny random Stable Diffusion, CLIP and captioner, saved as a user would have them on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

#: Decoder states of the tiny UNet have 64, 64, 32 and 16 channels, where the real one has 1280, 1280, 640, 320.
FREEU = {64: [1.2, 0.9], 32: [1.4, 0.2]}
TOKENS, TEXT, TIME, CLIP = 77, 32, 64, 24


def tiny_unet(**changes: Any) -> Any:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    settings = {"block_out_channels": (16, 32, 64, 64), "cross_attention_dim": TEXT, "norm_num_groups": 8}
    return UNet2DConditionModel(**(settings | {"attention_head_dim": 2} | changes))


def save_sd(folder: Path, **unet_changes: Any) -> Path:
    """A whole diffusers-format folder with decoder and all."""
    from diffusers import AutoencoderKL, PNDMScheduler
    from transformers import CLIPTextConfig, CLIPTextModel

    tiny_unet(**unet_changes).save_pretrained(folder / "unet")
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=8,
    )
    vae.save_pretrained(folder / "vae")
    text = CLIPTextConfig(
        vocab_size=60,
        hidden_size=TEXT,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=0,
        eos_token_id=1,
    )
    CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, skip_prk_steps=True
    ).save_pretrained(folder / "scheduler")
    save_tokenizer(folder / "tokenizer")
    return folder


def save_tokenizer(folder: Path) -> None:
    """Every letter is a token."""
    folder.mkdir(parents=True)
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS, "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def save_clip(folder: Path, projection: int = CLIP) -> Path:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(1)
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        projection_dim=projection,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder


def captioner_tensors(seed: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "alpha_cond": (1, TOKENS, TEXT),
        "alpha_cond_time_embed": (TIME,),
        "clip_project.linear.weight": (TEXT, CLIP),
        "clip_project.linear.bias": (TEXT,),
        "clip_project.positional_embedding": (1, TOKENS, TEXT),
        "time_embed_project.linear.weight": (TIME, CLIP),
        "time_embed_project.linear.bias": (TIME,),
        "time_embed_project.positional_embedding": (1, 1, TIME),
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def save_captioner(path: Path) -> Path:
    save_file(captioner_tensors(), path)
    return path
