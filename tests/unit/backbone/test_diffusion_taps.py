"""Taps equal a full pass of diffusers, FreeU equals its formula, and nothing behind the last tap runs."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_diffusion import FREEU, TEXT, TIME, TOKENS, tiny_unet
from torch.utils.flop_counter import FlopCounterMode

from geoalign.backbone.diffusion.freeu import filter_skip, parse_rule, scale_state
from geoalign.backbone.diffusion.taps import Tap, TapUNet

HOOKED = {"s5": "up_blocks.0.resnets.1", "s4": "up_blocks.1.attentions.1", "s3": "up_blocks.2.attentions.1"}


def inputs(views: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    latent = torch.randn(views, 4, 16, 16, generator=generator)
    return latent, torch.tensor(50), torch.randn(views, TOKENS, TEXT, generator=generator)


@torch.no_grad()
def test_taps_equal_hooks_on_a_full_pass() -> None:
    unet, found = tiny_unet(), {}
    paths = HOOKED | {"up2.0": "up_blocks.1", "up0.0": "mid_block"}
    for name, path in paths.items():
        unet.get_submodule(path).register_forward_hook(
            lambda module, args, output, name=name: keep(found, name, output)
        )
    unet(*inputs())
    states = TapUNet(tiny_unet(), list(paths), None)(*inputs())
    for name, state in zip(paths, states, strict=True):
        torch.testing.assert_close(state, found[name], rtol=1e-5, atol=1e-5)


def keep(found: dict[str, torch.Tensor], name: str, output: torch.Tensor | tuple[torch.Tensor]) -> None:
    found[name] = output[0] if isinstance(output, tuple) else output


@torch.no_grad()
def test_the_time_term_is_added_after_the_time_embedding() -> None:
    unet, term = tiny_unet(), torch.randn(2, TIME)
    unet.time_embedding.register_forward_hook(lambda module, args, output: output + term)
    expected = TapUNet(unet, ["s3"], FREEU)(*inputs())[0]
    torch.testing.assert_close(TapUNet(tiny_unet(), ["s3"], FREEU)(*inputs(), term)[0], expected)


@torch.no_grad()
def test_a_tap_is_the_scaled_state_and_does_not_depend_on_the_other_taps() -> None:
    plain = TapUNet(tiny_unet(), ["s5"], None)(*inputs())[0]
    later_only = {32: (1.4, 0.2)}
    torch.testing.assert_close(TapUNet(tiny_unet(), ["s5"], later_only)(*inputs())[0], plain)
    many = TapUNet(tiny_unet(), ["s3", "s4", "s5"], FREEU)(*inputs())
    for name, state in zip(["s3", "s4", "s5"], many, strict=True):
        torch.testing.assert_close(TapUNet(tiny_unet(), [name], FREEU)(*inputs())[0], state)


@pytest.mark.parametrize("shape", [(8, 8), (15, 15), (6, 9)])
def test_skip_filter_equals_the_shifted_spectrum(shape: tuple[int, int]) -> None:
    skip = torch.randn(2, 3, *shape)
    spectrum = torch.fft.fftshift(torch.fft.fftn(skip, dim=(-2, -1)), dim=(-2, -1))
    row, column = shape[0] // 2, shape[1] // 2
    spectrum[..., row - 1 : row + 1, column - 1 : column + 1] *= 0.2
    expected = torch.fft.ifftn(torch.fft.ifftshift(spectrum, dim=(-2, -1)), dim=(-2, -1)).real
    torch.testing.assert_close(filter_skip(skip, 0.2), expected)
    half = filter_skip(skip.bfloat16(), 0.2)
    assert half.dtype == torch.bfloat16


def test_state_scale_touches_the_first_half_only() -> None:
    state = torch.randn(1, 6, 2, 2)
    scaled = scale_state(state, 1.5)
    assert torch.equal(scaled[:, 3:], state[:, 3:])
    torch.testing.assert_close(scaled[:, :3], 1.5 * state[:, :3])


def test_shape_facts_come_from_the_unet() -> None:
    unet = TapUNet(tiny_unet(), ["s3", "s4", "s5", "up2.0", "up1.0"], FREEU)
    assert unet.channels == (32, 64, 64, 64, 64)
    assert unet.strides == (2, 4, 8, 2, 4)
    assert unet.time_channels == TIME
    for state, channels, stride in zip(unet(*inputs()), unet.channels, unet.strides, strict=True):
        assert state.shape == (2, channels, 16 // stride, 16 // stride)


def test_what_lies_behind_the_last_tap_is_gone() -> None:
    whole = {name for name, _ in tiny_unet().named_parameters()}
    kept = {name.removeprefix("unet.") for name, _ in TapUNet(tiny_unet(), ["s5", "s3"], None).named_parameters()}
    gone = (
        "up_blocks.3.",
        "up_blocks.2.resnets.2.",
        "up_blocks.2.attentions.2.",
        "up_blocks.2.upsamplers.",
        "conv_norm",
    )
    assert whole - kept == {name for name in whole if name.startswith((*gone, "conv_out"))}


def test_executed_work_of_the_real_size_is_at_most_70_percent() -> None:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
        arguments = torch.empty(1, 4, 64, 64), torch.tensor(50), torch.empty(1, 77, 768)
    full = count_flops(unet, *arguments)
    executed = count_flops(TapUNet(unet, ["s3", "s4", "s5"]), *arguments)
    print(f"full {full / 1e12:.3f} TFLOP, to the last tap {executed / 1e12:.3f}: {executed / full:.1%}")
    assert 0.5 < executed / full <= 0.70


def count_flops(model: torch.nn.Module, *arguments: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*arguments)
    return counter.get_total_flops()


@pytest.mark.parametrize("taps", [[], ["s3", "up2.2"], ["up0.3"], ["up7.0"]])
def test_impossible_taps_are_refused_with_the_possible_ones(taps: list[str]) -> None:
    with pytest.raises(ValueError, match=r"up0\.0, up0\.1.*up3\.2"):
        TapUNet(tiny_unet(), taps, None)


def test_a_misspelt_tap_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one of s5, s4, s3 or upBLOCK\.RESNET"):
        Tap.parse("block3")


def test_other_architectures_are_refused() -> None:
    with pytest.raises(ValueError, match=r"time_cond_proj_dim.*SDXL"):
        TapUNet(tiny_unet(time_cond_proj_dim=8), ["s3"], None)


def test_freeu_for_absent_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"1280 channels.*\[16, 32, 64\]"):
        TapUNet(tiny_unet(), ["s3"])
    with pytest.raises(ValueError, match=r"freeu\[64\] is \[state scale, skip scale\], got \[1.0\]"):
        parse_rule({64: [1.0]}, [64])
