"""The captioner's formulas, its conversion from a checkpoint, and what it refuses."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_diffusion import CLIP, TEXT, TIME, TOKENS, captioner_tensors, save_captioner, save_clip
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from geoalign.backbone.captioner import PREFIX, SHAPES, Captioner, check_shapes, convert, main
from geoalign.backbone.weights import WeightsError, file_id
from geoalign.files import FileError


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def captioner(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Captioner:
    return Captioner.load(save_captioner(tmp_path_factory.mktemp("c") / "c.safetensors"), str(clip)).eval()


def checkpoint(path: Path, tensors: dict[str, torch.Tensor], **others: Any) -> Path:
    model = {PREFIX + name: tensor for name, tensor in tensors.items()} | {"backbone.else.weight": torch.ones(2)}
    torch.save({"model": model, "iteration": 7} | others, path)
    return path


@torch.no_grad()
def test_conditions_equal_the_formulas(captioner: Captioner) -> None:
    tensors, pixels, text = captioner_tensors(), torch.rand(2, 3, 64, 64), torch.randn(1, TOKENS, TEXT)
    e = captioner.embed(pixels)
    assert e.shape == (2, CLIP)
    states, term = captioner(pixels, text)
    for view in range(2):
        projected = tensors["clip_project.linear.weight"] @ e[view] + tensors["clip_project.linear.bias"]
        implicit = projected + tensors["clip_project.positional_embedding"][0]
        torch.testing.assert_close(states[view], text[0] + tensors["alpha_cond"][0].tanh() * implicit)
        projected = tensors["time_embed_project.linear.weight"] @ e[view] + tensors["time_embed_project.linear.bias"]
        implicit = projected + tensors["time_embed_project.positional_embedding"][0, 0]
        torch.testing.assert_close(term[view], tensors["alpha_cond_time_embed"].tanh() * implicit)


@torch.no_grad()
def test_clip_sees_the_crop_bicubic_without_antialias_and_normalised(captioner: Captioner) -> None:
    pixels = torch.rand(1, 3, 64, 64)
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    small = F.interpolate(pixels, (28, 28), mode="bicubic")
    output = captioner.clip.vision_model((small - mean.view(3, 1, 1)) / std.view(3, 1, 1)).pooler_output
    torch.testing.assert_close(captioner.embed(pixels), captioner.clip.visual_projection(output))


def test_zero_alphas_are_the_plain_text(clip: Path, tmp_path: Path) -> None:
    tensors = captioner_tensors()
    tensors |= {name: torch.zeros_like(tensors[name]) for name in ("alpha_cond", "alpha_cond_time_embed")}
    save_file(tensors, tmp_path / "zero.safetensors")
    text = torch.randn(1, TOKENS, TEXT)
    states, term = Captioner.load(tmp_path / "zero.safetensors", str(clip))(torch.rand(2, 3, 32, 32), text)
    assert torch.equal(states, text.expand(2, -1, -1))
    assert not term.any()


def test_conversion_takes_exactly_the_eight_tensors(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "odise.pth", {name: each.half() for name, each in captioner_tensors().items()})
    assert main(["convert", str(source), str(tmp_path / "out.safetensors")]) == 0
    converted = load_file(tmp_path / "out.safetensors")
    assert set(converted) == set(SHAPES)
    for name, tensor in captioner_tensors().items():
        assert torch.equal(converted[name], tensor.half().float())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["odise.pth", "out.safetensors"]


def test_the_command_line_refuses_in_one_line(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "geoalign.backbone.captioner",
        "convert",
        str(tmp_path / "no.pth"),
        "x.safetensors",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path / 'no.pth'}: expected a weights file")
    assert done.stderr.count("\n") == 1


class Evil:
    """Runs code when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.path),))

    def __init__(self, path: Path) -> None:
        self.path = str(path)


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "evil.pth", captioner_tensors(), extra=Evil(tmp_path / "executed"))
    with pytest.raises(ValueError, match="more than plain tensors in it"):
        convert(source, tmp_path / "out.safetensors")
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "out.safetensors").exists()


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    (tmp_path / "text.pth").write_text("not a checkpoint")
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save({"state_dict": {}}, tmp_path / "other.pth")
    torch.save([1], tmp_path / "list.pth")
    few = captioner_tensors()
    del few["alpha_cond"]
    checkpoint(tmp_path / "few.pth", few)
    whole = checkpoint(tmp_path / "whole.pth", captioner_tensors()).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    for name, message in {
        "text.pth": "expected a readable weights file",
        "empty.pth": "expected a readable weights file",
        "cut.pth": "expected a readable weights file",
        "other.pth": r"no 'model' entry \(found \['state_dict'\]\)",
        "list.pth": r"no 'model' entry \(found list\)",
        "few.pth": r"1 of 8 tensors are absent under 'model', the first: backbone\.feature_extractor\.alpha_cond",
    }.items():
        with pytest.raises(ValueError, match=message):
            convert(tmp_path / name, out)
    with pytest.raises(WeightsError, match=r"no folder .*nowhere"):
        convert(tmp_path / "whole.pth", tmp_path / "nowhere" / "out.safetensors")
    assert not out.exists()


def test_shapes_must_agree_with_each_other() -> None:
    tensors = captioner_tensors()
    assert check_shapes(tensors) == {"1": 1, "t": TOKENS, "d": TEXT, "m": TIME, "e": CLIP}
    for name in SHAPES:
        wrong = {**tensors, name: tensors[name][..., :-1]}
        with pytest.raises(WeightsError, match=r"has shape .*, expected"):
            check_shapes(wrong)
        with pytest.raises(WeightsError, match="has shape"):
            check_shapes({**tensors, name: tensors[name][None]})
        with pytest.raises(WeightsError, match=f"{name} absent"):
            check_shapes({other: each for other, each in tensors.items() if other != name})


def test_shapes_must_fit_clip_and_the_stable_diffusion(captioner: Captioner, tmp_path: Path) -> None:
    wide = save_clip(tmp_path / "wide", projection=20)
    with pytest.raises(WeightsError, match=r"CLIP features of 24 channels, clip gives 20; set clip to openai/"):
        Captioner.load(save_captioner(tmp_path / "c.safetensors"), str(wide))
    captioner.check_fit(torch.zeros(1, TOKENS, TEXT), TIME)
    with pytest.raises(WeightsError, match=r"SD 1\.x only"):
        captioner.check_fit(torch.zeros(1, TOKENS, 40), TIME)


def test_pytorch_bin_weights_of_clip_load_too(clip: Path, tmp_path: Path, captioner: Captioner) -> None:
    """The hub's CLIP ViT-L/14-336 has no safetensors file."""
    (tmp_path / "config.json").write_text((clip / "config.json").read_text())
    torch.save(load_file(clip / "model.safetensors"), tmp_path / "pytorch_model.bin")
    other = Captioner.load(save_captioner(tmp_path / "c.safetensors"), str(tmp_path))
    pixels = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(other.embed(pixels), captioner.embed(pixels))


def headers() -> dict[str, bytes]:
    """Files that begin as a safetensors does and are none."""
    whole = {"alpha_cond": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    heads: dict[str, Any] = {
        "list": [], "number": 3, "text": "x", "null": None, "nothing": {}, "entries": {"alpha_cond": 3},
        "no dtype": {"alpha_cond": {"shape": [1], "data_offsets": [0, 4]}},
        "dtype": {"alpha_cond": whole["alpha_cond"] | {"dtype": "F4"}},
        "shape": {"alpha_cond": whole["alpha_cond"] | {"shape": [2**62, 4]}},
        "negative": {"alpha_cond": whole["alpha_cond"] | {"shape": [-1]}},
        "offsets": {"alpha_cond": whole["alpha_cond"] | {"data_offsets": [4, 0]}},
        "far": {"alpha_cond": whole["alpha_cond"] | {"data_offsets": [0, 2**60]}},
        "words": {"alpha_cond": whole["alpha_cond"] | {"data_offsets": ["a", "b"]}},
        "metadata": {"__metadata__": [1], **whole}, "few": whole,
    }  # fmt: skip
    texts = {name: json.dumps(head).encode() for name, head in heads.items()}
    texts |= {"deep": b"[" * 100_000, "cut": b'{"a', "bytes": b"\xff\xfe", "empty": b""}
    files = {name: struct.pack("<Q", len(text)) + text + bytes(4) for name, text in texts.items()}
    return files | {"long": struct.pack("<Q", 2**63) + b"{}", "short": b"abc", "no byte": b""}


@pytest.mark.parametrize("name", headers())
def test_a_malformed_file_is_one_line(tmp_path: Path, clip: Path, name: str) -> None:
    (tmp_path / "bad.safetensors").write_bytes(headers()[name])
    with pytest.raises(ValueError, match=r"bad\.safetensors|a captioner has 8 tensors") as caught:
        Captioner.load(tmp_path / "bad.safetensors", str(clip))
    assert "\n" not in str(caught.value)
    with suppress(FileError):  # a name by content may be had of what is no captioner, but nothing else is raised
        file_id(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("fault", ["nan", "inf", "sparse", "meta", "complex", "number"])
def test_only_finite_plain_tensors_are_taken(tmp_path: Path, fault: str) -> None:
    tensors: dict[str, Any] = captioner_tensors()
    value = tensors["alpha_cond"]
    tensors["alpha_cond"] = {
        "nan": value * float("nan"), "inf": value + float("inf"), "sparse": value.to_sparse(),
        "meta": value.to("meta"), "complex": value + 1j, "number": 3,
    }[fault]  # fmt: skip
    with pytest.raises(WeightsError, match="alpha_cond is "):
        convert(checkpoint(tmp_path / "odd.pth", tensors), tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
