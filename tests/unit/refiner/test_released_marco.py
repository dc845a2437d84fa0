"""MARCO's released weights go on from a cut DINOv2 with registers; DIY-SC's are the paper's."""

import pytest
import torch
import torch.nn.functional as F
from helpers.cut import dino, frames, marco_state, save_dinos
from transformers import Dinov2WithRegistersModel

from geoalign.backbone.tokens import IMAGENET_MEAN, IMAGENET_STD, normalise
from geoalign.refiner import Aggregation, Identity, Tail, UpsampleHead, load_released
from geoalign.refiner.base import CheckpointError
from geoalign.refiner.checkpoint import load_weights
from geoalign.refiner.tail import start

CUT, BLOCKS, WIDTH = 1, (1, 2), 24  # as marco_state has them


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return save_dinos(tmp_path_factory.mktemp("networks"))


def refiner(backbone, **options):
    channels, groups = backbone.whole
    inner = Identity(channels, backbone.grid, groups, unit=False)
    tail = Tail(inner, backbone.rest.network, tune="adaptformer", norm=False)
    made = UpsampleHead(tail, skip=False, normalise=False, **options)
    start(made, backbone.rest)
    return made.eval()


def slow(folder, weights, images):
    """The whole network of transformers, adapters and head written out as the release does it."""
    network = Dinov2WithRegistersModel.from_pretrained(folder).eval()
    x = network.embeddings(normalise(images, IMAGENET_MEAN, IMAGENET_STD))
    for i, block in enumerate(network.encoder.layer):
        if i not in BLOCKS:
            x = block(x)
            x = x[0] if isinstance(x, tuple) else x
            continue
        own = {k.removeprefix(f"dino.blocks.{i}.adapter."): v for k, v in weights.items() if f".{i}.adapter." in k}
        attended = block.attention(block.norm1(x))
        attended = attended[0] if isinstance(attended, tuple) else attended
        x = x + block.layer_scale1(attended)
        before = F.layer_norm(
            x, (WIDTH,), own["adapter_layer_norm_before.weight"], own["adapter_layer_norm_before.bias"]
        )
        hidden = F.relu(F.linear(before, own["down_proj.weight"], own["down_proj.bias"]))
        added = 0.1 * F.linear(hidden, own["up_proj.weight"], own["up_proj.bias"])
        x = x + added + block.layer_scale2(block.mlp(block.norm2(x)))
    x = network.layernorm(x)[:, 5:]
    side = round(x.shape[1] ** 0.5)
    x = x.transpose(1, 2).reshape(len(x), WIDTH, side, side)
    for i in range(2):
        own = {k.removeprefix(f"upscale.{i}."): v for k, v in weights.items() if k.startswith(f"upscale.{i}.")}
        x = F.gelu(F.conv_transpose2d(x, own["conv1.weight"], own["conv1.bias"], stride=2))
        x = F.conv2d(x, own["conv2.weight"], padding=1, groups=WIDTH).permute(0, 2, 3, 1)
        x = F.layer_norm(x, (WIDTH,), own["norm.weight"], own["norm.bias"], eps=1e-6).permute(0, 3, 1, 2)
    return x


@pytest.mark.parametrize("wrapped", [False, True])
def test_released_names_give_the_released_maps(root, tmp_path, wrapped):
    backbone, weights = dino(root, "registers", cut=CUT, final_norm=True), marco_state()
    torch.save({"model": weights} if wrapped else weights, tmp_path / "marco_release.pth")
    ours = refiner(backbone)
    load_weights(ours, tmp_path / "marco_release.pth")
    images = frames(backbone)
    with torch.no_grad():
        got = ours(backbone(images))
        want = slow(root / "registers", weights, images[backbone.image_sizes[0]])
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4 * want.abs().max().item())


@pytest.mark.parametrize(
    ("name", "normed", "said"),
    [
        ("dinov2", True, "got one of dinov2, its norm True"),
        ("registers", False, "got one of dinov2_with_registers, its norm False"),
        (None, False, "got no tail but Aggregation"),
    ],
)
def test_another_network_is_refused_with_the_remedy(root, tmp_path, name, normed, said):
    torch.save(marco_state(), tmp_path / "marco.pth")
    own = Aggregation([6], 4, 64, 32) if name is None else refiner(dino(root, name, cut=CUT, final_norm=normed))
    with pytest.raises(CheckpointError, match=said) as caught:
        load_weights(own, tmp_path / "marco.pth")
    assert "set experiment=released/marco" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s | {"dino.blocks.1.block.norm1.weight": torch.ones(24)}, r"also holds dino\.blocks\.1\.block"),
        (lambda s: {k: v for k, v in s.items() if "blocks.2" not in k}, r"lacks within\.chain\.blocks\.2\.adapter"),
        (lambda s: marco_state(width=48), r"is \(24, 48\)|is \(48,|is \(48, 48"),
        (lambda s: {k: v for k, v in s.items() if "upscale.1" not in k}, r"lacks layers\.4"),
    ],
)
def test_files_that_do_not_fit_are_named(root, tmp_path, change, said):
    torch.save(change(marco_state()), tmp_path / "marco.pth")
    with pytest.raises(CheckpointError, match=said):
        load_weights(refiner(dino(root, "registers", cut=CUT, final_norm=True)), tmp_path / "marco.pth")


def test_it_is_no_model_by_itself(tmp_path):
    torch.save(marco_state(), tmp_path / "marco.pth")
    with pytest.raises(CheckpointError, match="experiment=released/marco checkpoint="):
        load_released(tmp_path / "marco.pth")


@pytest.mark.parametrize("channels", [[768], [640, 1280, 1280, 768]])
def test_diy_sc_keeps_the_papers_names(tmp_path, channels):
    """Its two released files: DINO alone, and Stable Diffusion with DINO; sized by their tensors."""
    torch.manual_seed(0)
    made = Aggregation(channels)
    torch.save(made.state_dict(), tmp_path / "best.pth")
    loaded = load_released(tmp_path / "best.pth")
    assert (list(loaded.channels), loaded.width, loaded.grid) == (channels, 768, 60)
    assert "self_logit_scale" in loaded.state_dict()
    if len(channels) == 1:
        assert sorted(loaded.state_dict()) == sorted(
            ["mixing_weights", "logit_scale", "self_logit_scale"]
            + [f"bottleneck_layers.0.0.conv{i}.weight" for i in (1, 2, 3)]
            + [f"bottleneck_layers.0.0.conv{i}.norm.{part}" for i in (1, 2, 3) for part in ("weight", "bias")]
        )
