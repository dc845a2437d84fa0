"""DINOv2 as torch hub computes it, against stored arrays."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from geoalign.backbone.dino import Dino

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
pytestmark = pytest.mark.skipif(
    not (GOLDEN / "dinov2_hub.safetensors").is_file(), reason=f"no golden arrays in {GOLDEN}"
)


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "dinov2_hub.safetensors")


def relative_error(golden: dict[str, torch.Tensor], want: str, **settings) -> float:
    backbone = Dino(str(GOLDEN / "dinov2_tiny"), image_size=420, **settings)
    (got,) = backbone({420: golden["image_uint8"]})
    tokens = got.flatten(2).transpose(1, 2)
    return float((tokens - golden[want]).norm() / golden[want].norm())


@pytest.mark.parametrize(("want", "final_norm"), [("tokens_before_norm", False), ("tokens_after_norm", True)])
def test_hub_position_embedding(golden: dict[str, torch.Tensor], want: str, final_norm: bool) -> None:
    assert relative_error(golden, want, final_norm=final_norm) < 1e-4


def test_the_transformers_rule_is_another(golden: dict[str, torch.Tensor]) -> None:
    error = relative_error(golden, "tokens_before_norm", position_embedding="transformers")
    assert error == pytest.approx(5.5e-3, rel=0.1)
