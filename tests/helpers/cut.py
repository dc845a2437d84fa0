"""Small networks of every family that can be cut, whole and in two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from geoalign.backbone import Backbone, Dino

TINY = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "num_channels": 3}
DINO = ("dinov2", "registers", "swiglu", "dinov3")
CELLS = 4


def save_dinos(root: Path) -> Path:
    """A folder with a random network of every Dino family."""
    from transformers import (
        Dinov2Config,
        Dinov2Model,
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
        DINOv3ViTConfig,
        DINOv3ViTModel,
    )

    patched = {**TINY, "patch_size": 14, "image_size": 70}
    networks = {
        "dinov2": (Dinov2Model, Dinov2Config(**patched)),
        "registers": (Dinov2WithRegistersModel, Dinov2WithRegistersConfig(**patched, num_register_tokens=4)),
        "swiglu": (Dinov2Model, Dinov2Config(**patched, use_swiglu_ffn=True)),
        "dinov3": (DINOv3ViTModel, DINOv3ViTConfig(**TINY, intermediate_size=48, patch_size=16, num_register_tokens=4)),
    }
    torch.manual_seed(0)
    for name, (model, config) in networks.items():
        network = model(config)
        for parameter in network.parameters():  # the tiny initial weights would hide mistakes
            torch.nn.init.normal_(parameter, std=0.1)
        network.save_pretrained(root / name)
    return root


def dino(root: Path, name: str, **options: Any) -> Dino:
    """One of them, at four cells a side."""
    return Dino(str(root / name), image_size=CELLS * (16 if name == "dinov3" else 14), **options)


def frames(backbone: Backbone, count: int = 2) -> dict[int, torch.Tensor]:
    """Random pictures of every size that a backbone wants."""
    generator = torch.Generator().manual_seed(1)
    return {
        s: torch.randint(0, 256, (count, 3, s, s), dtype=torch.uint8, generator=generator) for s in backbone.image_sizes
    }
