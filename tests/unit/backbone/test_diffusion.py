"""The whole backbone on a tiny random Stable Diffusion, loaded offline from a folder as real weights are."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_diffusion import FREEU, save_captioner, save_clip, save_sd, tiny_unet
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from geoalign.backbone.diffusion import StableDiffusion
from geoalign.backbone.weights import WeightsError

SIZE, CROP = 192, 128
SMALL = {"image_size": CROP, "crop_px": None, "freeu": FREEU}
CROPPED = {"image_size": SIZE, "crop_px": CROP}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sd(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="module")
def images() -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(2, 3, 12, 12, generator=generator)
    large = (F.interpolate(coarse, size=SIZE, mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)
    return {SIZE: large, CROP: large[..., :CROP, :CROP]}


@pytest.fixture(scope="module")
def plain(folder: Path) -> StableDiffusion:
    """One pass at the whole size, FreeU on, empty prompt."""
    return build(folder)


@pytest.fixture(scope="module")
def plain_map(plain: StableDiffusion, images: dict[int, torch.Tensor]) -> torch.Tensor:
    return plain(images)[0]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def build(folder: Path, **changes: Any) -> StableDiffusion:
    return StableDiffusion(str(folder), **(SMALL | changes))


def direct_states(folder: Path, crop: torch.Tensor, prompt: str = "", step: int = 50) -> list[torch.Tensor]:
    """Features of one crop by diffusers' own models and a whole UNet pass, FreeU off."""
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
    text = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder").eval()
    tokens = tokenizer(prompt, padding="max_length", return_tensors="pt").input_ids
    latent = vae.encode(crop / 127.5 - 1).latent_dist.mode() * 0.18215
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    signal = torch.cumprod(1 - betas, 0)[step]
    assert torch.allclose(DDPMScheduler.from_pretrained(folder, subfolder="scheduler").alphas_cumprod[step], signal)
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(42))
    found: list[torch.Tensor] = []
    for path in ("up_blocks.2.attentions.1", "up_blocks.1.attentions.1", "up_blocks.0.resnets.1"):
        unet.get_submodule(path).register_forward_hook(
            lambda _, __, output: found.insert(0, output[0] if isinstance(output, tuple) else output)
        )
    unet(signal.sqrt() * latent + (1 - signal).sqrt() * noise, step, text(tokens)[0])
    return found


@torch.no_grad()
@pytest.mark.parametrize("prompt", ["", "a cat"])
def test_a_crop_equals_diffusers_own_pass(folder: Path, images: dict[int, torch.Tensor], prompt: str) -> None:
    crop = images[CROP][:1]
    backbone = build(folder, freeu=None, prompt=prompt)
    for got, expected in zip(backbone({CROP: crop}), direct_states(folder, crop.float(), prompt), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_crops_pass_alone_and_are_averaged_where_they_overlap(
    folder: Path, plain: StableDiffusion, images: dict[int, torch.Tensor]
) -> None:
    places = [(0, 0), (0, 64), (64, 0), (64, 64)]
    alone = [plain({CROP: images[SIZE][..., y : y + 128, x : x + 128]}) for y, x in places]
    for index, (got, stride) in enumerate(zip(build(folder, **CROPPED)(images), (16, 32, 64), strict=True)):
        layers = torch.full((4, *got.shape), torch.nan)
        for layer, maps, (y, x) in zip(layers, alone, places, strict=True):
            layer[..., y // stride : (y + 128) // stride, x // stride : (x + 128) // stride] = maps[index]
        torch.testing.assert_close(got, layers.nanmean(0), rtol=1e-4, atol=1e-5)


def test_declared_shapes_hold(folder: Path, images: dict[int, torch.Tensor]) -> None:
    backbone = build(folder, taps=["s5", "up2.0", "s3"], **CROPPED)
    assert (backbone.channels, backbone.image_sizes, backbone.grid) == ((64, 64, 32), (SIZE,), 12)
    maps = backbone(images)
    assert [tuple(each.shape) for each in maps] == [(2, 64, 3, 3), (2, 64, 12, 12), (2, 32, 12, 12)]
    assert all(each.dtype == torch.float32 and each.isfinite().all() for each in maps)


def test_crop_batch_and_repetition_change_nothing(folder: Path, images: dict[int, torch.Tensor]) -> None:
    backbone = build(folder, crop_batch=1, **CROPPED)
    first = backbone(images)
    for crop_batch in (1, 3, 8):
        backbone.crop_batch = crop_batch
        for got, expected in zip(backbone(images), first, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_views_do_not_influence_each_other(plain: StableDiffusion, images: dict[int, torch.Tensor]) -> None:
    alone = plain({CROP: images[CROP][1:]})
    for got, expected in zip(plain(images), alone, strict=True):
        torch.testing.assert_close(got[1:], expected, rtol=1e-4, atol=1e-5)


def test_an_ensemble_is_the_mean_of_its_members(
    folder: Path, images: dict[int, torch.Tensor], plain_map: torch.Tensor
) -> None:
    backbone = build(folder, timesteps=[50, 261], noises=2)
    whole = backbone(images)[0]
    members = []
    for step, noise in itertools.product([50, 261], [0, 1]):
        member = build(folder, timesteps=[step])
        member.noise = backbone.noise[noise : noise + 1]
        members.append(member(images)[0])
    torch.testing.assert_close(members[0], plain_map)
    torch.testing.assert_close(whole, sum(members) / 4)


def test_without_noise_the_seed_does_not_matter(
    folder: Path, images: dict[int, torch.Tensor], plain_map: torch.Tensor
) -> None:
    clean = [build(folder, add_noise=False, seed=seed) for seed in (1, 2)]
    assert torch.equal(clean[0](images)[0], clean[1](images)[0])
    assert clean[0].fingerprint == clean[1].fingerprint
    assert not torch.allclose(build(folder, seed=1)(images)[0], plain_map)


def test_replaced_unet_weights_equal_a_folder_that_holds_them(
    folder: Path, plain: StableDiffusion, images: dict[int, torch.Tensor], tmp_path: Path
) -> None:
    unet = tiny_unet()
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.mul_(1.1)
    save_file(unet.state_dict(), tmp_path / "clean.safetensors")
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    unet.save_pretrained(other / "unet")
    expected = build(other)(images)
    bare = Path(shutil.copytree(folder, tmp_path / "bare"))
    (bare / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    replaced = build(bare, unet_weights=str(tmp_path / "clean.safetensors"))
    assert torch.equal(replaced(images)[0], expected[0])
    assert replaced.fingerprint != plain.fingerprint


def test_captioner_changes_the_condition_and_a_prompt_keeps_only_its_time_term(
    folder: Path, plain: StableDiffusion, images: dict[int, torch.Tensor], tmp_path: Path
) -> None:
    files = {"captioner": str(save_captioner(tmp_path / "c.safetensors")), "clip": str(save_clip(tmp_path / "clip"))}
    backbone = build(folder, **files)
    pixels = images[CROP] / 255
    states, term = backbone.condition(pixels)
    expected_states, expected_term = backbone.captioner(pixels, plain.text_states)
    assert torch.equal(states, expected_states)
    assert torch.equal(term, expected_term)
    prompted = build(folder, prompt="a cat", **files)
    prompted_states, prompted_term = prompted.condition(pixels)
    assert torch.equal(prompted_states[1], prompted.text_states[0])
    assert not torch.equal(prompted.text_states, plain.text_states)
    torch.testing.assert_close(prompted_term, expected_term)
    assert not torch.allclose(backbone(images)[0], plain(images)[0])
    assert backbone.fingerprint != plain.fingerprint


def test_bfloat16_is_near_float32(folder: Path, images: dict[int, torch.Tensor], plain_map: torch.Tensor) -> None:
    half = build(folder, dtype="bfloat16")
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    got = half(images)[0]
    assert got.dtype == torch.float32
    assert (got - plain_map).norm() / plain_map.norm() < 0.05


def test_compiled_equals_eager(folder: Path, images: dict[int, torch.Tensor], plain_map: torch.Tensor) -> None:
    with torch.compiler.set_stance("force_eager"):  # the wiring, not the compiler
        compiled = build(folder, compile=True)
        assert compiled.unet._compiled_call_impl is not None
        torch.testing.assert_close(compiled(images)[0], plain_map)


def test_frozen_and_without_decoder_and_text_encoder(folder: Path) -> None:
    backbone = build(folder).train()
    assert not backbone.training
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    names = {name for name, _ in backbone.named_modules()}
    assert not any(part in name for name in names for part in ("decoder", "text_model", "safety"))
    assert not {"noise", "text_states"} & set(backbone.state_dict())


def test_identity_names_what_changes_the_output_and_nothing_else(
    folder: Path, plain: StableDiffusion, tmp_path: Path
) -> None:
    assert build(shutil.copytree(folder, tmp_path / "copy"), crop_batch=1).fingerprint == plain.fingerprint
    changes: list[dict[str, Any]] = [
        {"timesteps": [51]},
        {"freeu": None},
        {"taps": ["s3"]},
        {"prompt": "cat"},
        {"seed": 1},
    ]
    assert len({plain.fingerprint, *(build(folder, **change).fingerprint for change in changes)}) == len(changes) + 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "float64"}, "dtype is one of float32, float16, bfloat16"),
        ({"dtype": "float16"}, "float16 needs an accelerator.*bfloat16"),
        ({"timesteps": [1000]}, r"timesteps are one or more of 0\.\.999"),
        ({"timesteps": []}, "timesteps are one or more"),
        ({"crop_px": 256}, "crop 256, image 128 px"),
        ({"image_size": 200}, "image_size must be a multiple of 64"),
        ({"crop_batch": 0}, "at least 1"),
        ({"noises": 2, "add_noise": False}, "set noises=1 or add_noise=true"),
        ({"prompt": "cats " * 40}, r"prompt has \d+ tokens, the text encoder takes 77"),
        ({"captioner": "nowhere.safetensors"}, "python -m geoalign.backbone.captioner convert"),
        ({"unet_weights": "./nowhere.safetensors"}, "no file ./nowhere.safetensors"),
    ],
)
@pytest.mark.skipif(torch.accelerator.is_available(), reason="float16 is allowed where an accelerator is")
def test_wrong_settings_are_refused_with_the_remedy(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(folder, **changes)


@pytest.mark.unchecked
def test_wrong_frames_are_refused(plain: StableDiffusion, images: dict[int, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match=r"frames of 128 px, got \[840\]"):
        plain({840: images[SIZE]})
    with pytest.raises(ValueError, match=r"uint8 frames \(u 3 128 128\), got torch.uint8 \(2, 3, 7, 7\)"):
        plain({CROP: images[CROP][..., :7, :7]})
    with pytest.raises(ValueError, match=r"expected uint8 .* got torch\.float32"):
        plain({CROP: images[CROP] / 255})


def test_offline_error_names_id_files_and_command() -> None:
    with pytest.raises(WeightsError) as caught:
        StableDiffusion("owner/sd", mirrors=["elsewhere/sd"])
    for part in ("owner/sd", "unet/diffusion_pytorch_model.safetensors", "hf download owner/sd", "elsewhere/sd"):
        assert part in str(caught.value)


def test_unet_of_another_architecture_is_refused(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    tiny_unet(cross_attention_dim=48).save_pretrained(other / "unet")
    with pytest.raises(WeightsError, match="text states of 48 channels, text_encoder gives 32"):
        build(other)
    tiny_unet(in_channels=9).save_pretrained(other / "unet")
    with pytest.raises(WeightsError, match=r"9 latent channels.*no inpainting"):
        build(other)
    save_file(tiny_unet(cross_attention_dim=48).state_dict(), tmp_path / "wide.safetensors")
    with pytest.raises(WeightsError, match="another architecture"):
        build(folder, unet_weights=str(tmp_path / "wide.safetensors"))


def test_a_vae_with_the_tensor_names_of_sd1_loads_alike(
    folder: Path, images: dict[int, torch.Tensor], plain_map: torch.Tensor, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    path = other / "vae" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(path)
    for new, name in old.items():
        tensors = {key.replace(f"attentions.0.{new}.", f"attentions.0.{name}."): each for key, each in tensors.items()}
    assert any("proj_attn" in key for key in tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    assert torch.equal(build(other)(images)[0], plain_map)


def test_weights_that_do_not_fit_their_config_are_refused(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    tiny_unet(layers_per_block=1).save_pretrained(tmp_path / "shallow")
    shutil.copy(tmp_path / "shallow" / "diffusion_pytorch_model.safetensors", other / "unet")
    with pytest.raises(WeightsError, match="of another architecture"):
        build(other)
