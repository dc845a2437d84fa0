"""TransformersVision on tiny random networks of many families."""

import json
from pathlib import Path

import pytest
import torch
import transformers as tf

from geoalign.backbone.transformers_generic import TransformersVision, state_to_map
from geoalign.backbone.weights import WeightsError

VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CLIP_TEXT = VIT | {"vocab_size": 50}
PATCHED = VIT | {"image_size": 32, "patch_size": 8}
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}
MODELS: dict[str, tuple[type, object]] = {
    "vit": (tf.ViTModel, tf.ViTConfig(**PATCHED)),
    "deit": (tf.DeiTModel, tf.DeiTConfig(**PATCHED)),  # two tokens before the patches
    "siglip": (tf.SiglipVisionModel, tf.SiglipVisionConfig(**PATCHED)),  # none
    "clip": (tf.CLIPModel, tf.CLIPConfig(text_config=CLIP_TEXT, vision_config=PATCHED, projection_dim=8)),
    "dinov2": (tf.Dinov2Model, tf.Dinov2Config(**PATCHED)),
    "convnext": (tf.ConvNextModel, tf.ConvNextConfig(**STAGES, patch_size=4)),
    "swin": (
        tf.SwinModel,
        tf.SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 1], window_size=4),
    ),
    "resnet": (tf.ResNetModel, tf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])),
}
HALF = [0.5, 0.5, 0.5]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("vision")
    torch.manual_seed(0)
    for name, (model, config) in MODELS.items():
        model(config).save_pretrained(root / name)
        (root / name / "preprocessor_config.json").write_text(json.dumps({"image_mean": HALF, "image_std": HALF}))
    return {name: root / name for name in MODELS}


def frames(size: int, count: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("layers", [None, [0, -1]])
def test_declares_what_it_gives(folders: dict[str, Path], name: str, layers: list[int] | None) -> None:
    backbone = TransformersVision(str(folders[name]), image_size=64, layers=layers, view_batch=2)
    maps = backbone({64: frames(64)})
    assert tuple(one.shape[1] for one in maps) == backbone.channels
    assert backbone.grid == max(one.shape[-1] for one in maps) <= 32
    assert all(one.shape[0] == 3 and one.shape[2] == one.shape[3] >= 4 for one in maps)
    assert all(one.isfinite().all() for one in maps)


def test_tokens_lie_where_the_patches_are(folders: dict[str, Path]) -> None:
    images = frames(32, 1)
    network = tf.DeiTModel.from_pretrained(folders["deit"]).eval()
    with torch.no_grad():
        tokens = network((images / 255 - 0.5) / 0.5).last_hidden_state[0, 2:]
    (got,) = TransformersVision(str(folders["deit"]), image_size=32)({32: images})
    torch.testing.assert_close(got[0, :, 1, 2], tokens[1 * 4 + 2], rtol=1e-4, atol=1e-5)


def test_layers_are_the_hidden_states(folders: dict[str, Path]) -> None:
    images = frames(32, 1)
    network = tf.ConvNextModel.from_pretrained(folders["convnext"]).eval()
    with torch.no_grad():
        want = network((images / 255 - 0.5) / 0.5, output_hidden_states=True).hidden_states
    got = TransformersVision(str(folders["convnext"]), image_size=32, layers=[1, 2])({32: images})
    for one, other in zip(got, want[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_fingerprint_follows_settings(folders: dict[str, Path]) -> None:
    build = {"source": str(folders["vit"]), "image_size": 32}
    variants = [{}, {"layers": [1]}, {"mean": [0.1] * 3, "std": HALF}, {"dtype": "bfloat16"}, {"image_size": 64}]
    prints = {TransformersVision(**(build | variant)).fingerprint for variant in variants}
    assert len(prints) == len(variants)
    assert TransformersVision(**build, view_batch=1).fingerprint in prints


def test_state_to_map_shapes() -> None:
    assert state_to_map(torch.zeros(1, 5, 3, 3), 9).shape == (1, 5, 3, 3)
    assert state_to_map(torch.zeros(1, 3, 3, 5), 9).shape == (1, 5, 3, 3)
    assert state_to_map(torch.zeros(1, 14, 5), 9).shape == (1, 5, 3, 3)
    assert state_to_map(torch.zeros(1, 14, 5), 6, patch=3).shape == (1, 5, 2, 2)
    with pytest.raises(ValueError, match=r"140 tokens are no square"):
        state_to_map(torch.zeros(1, 140, 5), 9)
    with pytest.raises(ValueError, match="expected tokens"):
        state_to_map(torch.zeros(1, 5), 9)


def test_wrong_settings(folders: dict[str, Path], tmp_path: Path) -> None:
    vit = str(folders["vit"])
    with pytest.raises(ValueError, match=r"patches of 8 px, .* got 36; the nearest is 32"):
        TransformersVision(vit, image_size=36)
    with pytest.raises(ValueError, match=r"layers index 3 hidden states, got \[3\]"):
        TransformersVision(vit, image_size=32, layers=[3])
    with pytest.raises(ValueError, match="expected frames of 32 px"):
        TransformersVision(vit, image_size=32)({64: frames(64)})
    fixed = {"image_size": 64, "hidden_sizes": [16] * 3, "num_attention_heads": [2] * 3, "depths": [1] * 3}
    tf.LevitModel(tf.LevitConfig(**fixed, key_dim=[4] * 3)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"does not run on images of 128 px .* set image_size"):
        TransformersVision(str(tmp_path), image_size=128, mean=HALF, std=HALF)
    tf.BertModel(tf.BertConfig(**CLIP_TEXT)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a BertModel, which takes no images"):
        TransformersVision(str(tmp_path), image_size=32, mean=HALF, std=HALF)


def test_pixel_statistics_are_never_guessed(folders: dict[str, Path], tmp_path: Path) -> None:
    tf.ViTModel.from_pretrained(folders["vit"]).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"preprocessor_config\.json"):
        TransformersVision(str(tmp_path), image_size=32)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(ValueError, match="no image_mean and image_std; set mean and std"):
        TransformersVision(str(tmp_path), image_size=32)
    assert TransformersVision(str(tmp_path), image_size=32, mean=HALF, std=HALF).channels == (16,)
