"""Taps of a full-size SD 1.5 UNet against the original implementation, with and without FreeU."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from geoalign.backbone.diffusion.freeu import RELEASE
from geoalign.backbone.diffusion.taps import TapUNet

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "sd15_unet_taps.safetensors"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not GOLDEN.exists(), reason=f"{GOLDEN} is not here; the arrays are not part of the project"),
]


def draw_weights(unet: torch.nn.Module) -> None:
    """Random weights by parameter name, as the golden file was made."""
    for name, parameter in unet.named_parameters():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        noise = torch.randn(parameter.shape, generator=generator)
        if noise.ndim >= 2:
            parameter.data = noise / noise[0].numel() ** 0.5
        elif "norm" in name and name.endswith("weight"):
            parameter.data = 1 + 0.1 * noise
        else:
            parameter.data = 0.02 * noise


@pytest.fixture(scope="module")
def unet() -> TapUNet:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        model = UNet2DConditionModel(cross_attention_dim=768)
    model.to_empty(device="cpu")
    draw_weights(model)
    return TapUNet(model, ["s5", "s4", "s3"], RELEASE).eval()


@pytest.mark.parametrize("freeu", ["plain", "freeu"])
@torch.no_grad()
def test_taps_equal_the_original_implementation(unet: TapUNet, freeu: str) -> None:
    golden = load_file(GOLDEN)
    unet.freeu = dict(RELEASE) if freeu == "freeu" else {}
    states = unet(golden["latent"], torch.tensor(50), golden["text_states"], golden["time_term"])
    for name, state in zip(["s5", "s4", "s3"], states, strict=True):
        expected = golden[f"{name}_{freeu}"]
        got = state[0].flatten(1)[:, golden[f"{name}_cells"]]
        error = ((got - expected).norm() / expected.norm()).item()
        print(f"{name} {freeu}: relative error {error:.1e}")
        assert error < 1e-4
