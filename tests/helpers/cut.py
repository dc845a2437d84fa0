"""Small networks of every family that can be cut, whole and in two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from geoalign.backbone import Backbone, Dino, TransformersVision
from geoalign.refiner import Identity, Tail

TINY = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "num_channels": 3}
DINO = ("dinov2", "registers", "swiglu", "dinov3")
CELLS = 4


def save_dinos(root: Path) -> Path:
    """A folder with a random network of every Dino family."""
    import transformers as tf

    patched = {**TINY, "patch_size": 14, "image_size": 70}
    registers = {"num_register_tokens": 4}
    networks = {
        "dinov2": tf.Dinov2Model(tf.Dinov2Config(**patched)),
        "registers": tf.Dinov2WithRegistersModel(tf.Dinov2WithRegistersConfig(**patched, **registers)),
        "swiglu": tf.Dinov2Model(tf.Dinov2Config(**patched, use_swiglu_ffn=True)),
        "dinov3": tf.DINOv3ViTModel(tf.DINOv3ViTConfig(**TINY, **registers, intermediate_size=48, patch_size=16)),
    }
    return _save(root, networks)


def save_vits(root: Path) -> Path:
    """And one of every other family, and one that cannot be cut."""
    import transformers as tf

    patched = {**TINY, "intermediate_size": 32, "image_size": 56, "patch_size": 14}
    text = {**TINY, "intermediate_size": 32, "vocab_size": 50}
    networks = {
        "vit": tf.ViTModel(tf.ViTConfig(**patched)),
        "deit": tf.DeiTModel(tf.DeiTConfig(**patched)),
        "siglip": tf.SiglipVisionModel(tf.SiglipVisionConfig(**patched)),
        "clip": tf.CLIPModel(tf.CLIPConfig(text_config=text, vision_config=patched, projection_dim=8)),
        "convnext": tf.ConvNextModel(tf.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2)),
    }
    return _save(root, networks)


def _save(root: Path, networks: dict[str, Any]) -> Path:
    torch.manual_seed(0)
    for name, network in networks.items():
        for parameter in network.parameters():  # the tiny initial weights would hide mistakes
            torch.nn.init.normal_(parameter, std=0.1)
        network.save_pretrained(root / name)
        (root / name / "preprocessor_config.json").write_text(
            json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3})
        )
    return root


def dino(root: Path, name: str, **options: Any) -> Dino:
    """One of them, at four cells a side."""
    return Dino(str(root / name), image_size=CELLS * (16 if name == "dinov3" else 14), **options)


def vit(root: Path, name: str, **options: Any) -> TransformersVision:
    """One of the others, or of them as one of the others."""
    return TransformersVision(str(root / name), image_size=CELLS * (16 if name == "dinov3" else 14), **options)


def frames(backbone: Backbone, count: int = 2) -> dict[int, torch.Tensor]:
    """Random pictures of every size that a backbone wants."""
    generator = torch.Generator().manual_seed(1)
    draw = {"dtype": torch.uint8, "generator": generator}
    return {size: torch.randint(0, 256, (count, 3, size, size), **draw) for size in backbone.image_sizes}


def tail_of(backbone: Backbone, **options: Any) -> Tail:
    """A started tail on a cut backbone, with nothing trained behind it."""
    assert backbone.rest is not None
    channels, groups = backbone.whole
    torch.manual_seed(0)
    made = Tail(Identity(channels, backbone.grid, groups), backbone.rest.network, **options)
    made.start(backbone.rest)
    return made


def marco_state(width: int = 24, blocks: tuple[int, ...] = (1, 2)) -> dict[str, torch.Tensor]:
    """Random tensors under MARCO's names, for the blocks behind ``cut=1`` of a tiny network."""
    torch.manual_seed(3)
    made: dict[str, torch.Tensor] = {}
    for i in blocks:
        at = f"dino.blocks.{i}.adapter."
        shapes = {
            "adapter_layer_norm_before": (width,),
            "down_proj": (width // 2, width),
            "up_proj": (width, width // 2),
        }
        for name, shape in shapes.items():
            made |= {f"{at}{name}.weight": torch.randn(shape), f"{at}{name}.bias": torch.randn(shape[0])}
    for i in range(2):
        at = f"upscale.{i}."
        made |= {f"{at}conv1.weight": torch.randn(width, width, 2, 2) / 5, f"{at}conv1.bias": torch.randn(width)}
        made |= {f"{at}conv2.weight": torch.randn(width, 1, 3, 3)}
        made |= {f"{at}norm.weight": torch.randn(width), f"{at}norm.bias": torch.randn(width)}
    return made
