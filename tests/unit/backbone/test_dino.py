"""Dino on tiny random networks saved to disk and loaded as real ones are."""

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    ViTConfig,
    ViTModel,
)

from geoalign.backbone.dino import Dino
from geoalign.backbone.tokens import IMAGENET_MEAN, IMAGENET_STD, normalise
from geoalign.backbone.weights import WeightsError

SIZES = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "num_channels": 3}
MODELS = {
    "dinov2": (Dinov2Model, Dinov2Config(**SIZES, patch_size=14, image_size=70)),
    "registers": (
        Dinov2WithRegistersModel,
        Dinov2WithRegistersConfig(**SIZES, patch_size=14, image_size=70, num_register_tokens=4),
    ),
    "swiglu": (Dinov2Model, Dinov2Config(**SIZES, patch_size=14, image_size=70, use_swiglu_ffn=True)),
    "dinov3": (
        DINOv3ViTModel,
        DINOv3ViTConfig(**SIZES, intermediate_size=48, patch_size=16, num_register_tokens=4),
    ),
}
CELLS = 6


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    for name, (model, config) in MODELS.items():
        network = model(config)
        for parameter in network.parameters():  # the tiny initial weights would hide mistakes
            torch.nn.init.normal_(parameter, std=0.3)
        network.save_pretrained(root / name)
    return {name: root / name for name in MODELS}


def frames(size: int, count: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def size_of(name: str) -> int:
    return CELLS * MODELS[name][1].patch_size


def reference(folder: Path, name: str, images: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """All hidden states and, by hooks, all keys of the untouched network: patch tokens as maps."""
    network = MODELS[name][0].from_pretrained(folder).eval()
    keys: list[torch.Tensor] = []
    for module_name, module in network.named_modules():
        if module_name.endswith("k_proj"):
            module.register_forward_hook(lambda _module, _inputs, output: keys.append(output))
    with torch.no_grad():
        outputs = network(normalise(images, IMAGENET_MEAN, IMAGENET_STD), output_hidden_states=True)

    def as_map(tokens: torch.Tensor) -> torch.Tensor:
        return tokens[:, -CELLS * CELLS :].reshape(-1, CELLS, CELLS, tokens.shape[-1]).permute(0, 3, 1, 2)

    return [as_map(one) for one in (*outputs.hidden_states[1:], outputs.last_hidden_state)], [as_map(k) for k in keys]


@pytest.mark.parametrize("name", MODELS)
def test_equals_the_whole_network_at_every_layer(folders: dict[str, Path], name: str) -> None:
    images = frames(size_of(name))
    tokens, keys = reference(folders[name], name, images)
    build = {"source": str(folders[name]), "image_size": size_of(name), "position_embedding": "transformers"}
    for layer in range(3):
        (token,) = Dino(**build, layer=layer)({size_of(name): images})
        (key,) = Dino(**build, layer=layer, facet="key")({size_of(name): images})
        torch.testing.assert_close(token, tokens[layer], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(key, keys[layer], rtol=1e-4, atol=1e-4)
    (normed,) = Dino(**build, final_norm=True)({size_of(name): images})
    torch.testing.assert_close(normed, tokens[3], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_declares_what_it_gives(folders: dict[str, Path], name: str) -> None:
    backbone = Dino(str(folders[name]), image_size=size_of(name), view_batch=2)
    (got,) = backbone({size_of(name): frames(size_of(name), 5)})
    assert got.shape == (5, *backbone.channels, backbone.grid, backbone.grid) == (5, 24, CELLS, CELLS)
    assert backbone.image_sizes == (size_of(name),)
    assert backbone.groups == ((0,),)


def test_wasted_blocks_are_gone(folders: dict[str, Path]) -> None:
    first = Dino(str(folders["dinov2"]), image_size=84, layer=0)
    assert len(first.network.encoder.layer) == 1
    assert not any(parameter.requires_grad for parameter in first.train().parameters())
    assert not first.training


@pytest.mark.parametrize("name", ["registers", "dinov3"])
def test_position_rule_acts_on_plain_dinov2_only(folders: dict[str, Path], name: str) -> None:
    images = {size_of(name): frames(size_of(name))}
    build = {"source": str(folders[name]), "image_size": size_of(name)}
    hub, plain = Dino(**build, position_embedding="hub"), Dino(**build, position_embedding="transformers")
    assert torch.equal(hub(images)[0], plain(images)[0])
    assert hub.fingerprint == plain.fingerprint


def test_hub_rule_changes_nothing_at_the_trained_size(folders: dict[str, Path]) -> None:
    images = {70: frames(70)}
    hub = Dino(str(folders["dinov2"]), image_size=70)
    plain = Dino(str(folders["dinov2"]), image_size=70, position_embedding="transformers")
    assert torch.equal(hub(images)[0], plain(images)[0])
    other = Dino(str(folders["dinov2"]), image_size=84)
    assert other.fingerprint != hub.fingerprint != plain.fingerprint


@pytest.mark.parametrize("name", ["dinov2", "dinov3"])
def test_bfloat16_is_near_and_float32_outside(folders: dict[str, Path], name: str) -> None:
    images = {size_of(name): frames(size_of(name))}
    build = {"source": str(folders[name]), "image_size": size_of(name)}
    exact, half = Dino(**build), Dino(**build, dtype="bfloat16")
    (one,), (other,) = exact(images), half(images)
    assert other.dtype == torch.float32
    assert (one - other).norm() / one.norm() < 0.03
    assert half.fingerprint != exact.fingerprint


def test_compile_is_asked_for_after_the_cut(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda network: compiled.append(len(network.encoder.layer)))
    plain = Dino(str(folders["dinov2"]), image_size=84, layer=1)
    assert Dino(str(folders["dinov2"]), image_size=84, layer=1, compile=True).fingerprint == plain.fingerprint
    assert compiled == [2]


def test_weights_are_in_the_fingerprint(folders: dict[str, Path], tmp_path: Path) -> None:
    torch.manual_seed(1)
    Dinov2Model(MODELS["dinov2"][1]).save_pretrained(tmp_path)
    assert Dino(str(tmp_path), image_size=84).fingerprint != Dino(str(folders["dinov2"]), image_size=84).fingerprint


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 85}, "multiple of that, got 85; the nearest is 84"),
        ({"image_size": 7}, "multiple of that, got 7; the nearest is 14"),
        ({"layer": 3}, r"blocks 0\.\.2 .* got 3"),
        ({"facet": "query"}, "token or key, got 'query'"),
        ({"facet": "key", "final_norm": True}, "set final_norm=false"),
        ({"position_embedding": "timm"}, "hub or transformers, got 'timm'"),
        ({"dtype": "float8"}, "float32, float16, bfloat16, got 'float8'"),
        ({"view_batch": 0}, "positive number of views, got 0"),
    ],
)
def test_wrong_settings(folders: dict[str, Path], settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Dino(**({"source": str(folders["dinov2"]), "image_size": 84} | settings))


def test_wrong_frames(folders: dict[str, Path]) -> None:
    backbone = Dino(str(folders["dinov2"]), image_size=84)
    with pytest.raises(ValueError, match=r"expected frames of 84 px, got \[70\]"):
        backbone({70: frames(70)})
    with pytest.raises(ValueError, match=r"expected uint8 frames \(u 3 84 84\)"):
        backbone({84: frames(70)})


def test_another_architecture(folders: dict[str, Path], tmp_path: Path) -> None:
    ViTModel(ViTConfig(**SIZES, image_size=32, intermediate_size=16)).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"is vit; use .*TransformersVision"):
        Dino(str(tmp_path), image_size=32)
    config = json.loads((folders["dinov2"] / "config.json").read_text()) | {"num_hidden_layers": 5}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((folders["dinov2"] / "model.safetensors").read_bytes())
    with pytest.raises(WeightsError, match="another architecture than Dinov2Model"):
        Dino(str(tmp_path), image_size=84)


def test_missing_weights(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=r"(?s)facebook/dinov2-large.*hf download facebook/dinov2-large"):
        Dino("facebook/dinov2-large")
    gated = "facebook/dinov3-vitb16-pretrain-lvd1689m"
    with pytest.raises(WeightsError, match=rf"(?s)https://huggingface\.co/{gated}.*hf auth login"):
        Dino(gated, image_size=960)
    (tmp_path / "config.json").write_text((folders["dinov2"] / "config.json").read_text())
    with pytest.raises(WeightsError, match="safetensors not found in"):
        Dino(str(tmp_path), image_size=84)
