"""Weights are found, loaded strictly, named by content; errors say id, files, folder and command."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors.torch import load_file, save_file

from geoalign.backbone.weights import (
    WeightsError,
    download_command,
    file_id,
    load_model,
    load_pretrained,
    local_file,
    local_folder,
    weights_id,
)
from geoalign.files import FileError
from geoalign.tensors import read_tensors

FILES = ["config.json", "model.safetensors"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    clip_class()(small_config()).save_pretrained(folder)
    return folder


def small_config(layers: int = 1) -> Any:
    from transformers import CLIPVisionConfig

    return CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )


def clip_class() -> Any:
    from transformers import CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection


def copy(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


def hub(monkeypatch: pytest.MonkeyPatch, answer: Path | Exception) -> list[dict[str, Any]]:
    """Stands in for the hub: gives a snapshot folder or fails; returns the calls made."""
    calls: list[dict[str, Any]] = []

    def download(source: str, *args: Any, **kwargs: Any) -> str:
        calls.append({"source": source, "args": args} | kwargs)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    return calls


def response(status: int) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", "https://hub.example/owner/name"))


def test_a_folder_loads_and_equals_what_was_saved(saved: Path) -> None:
    model = load_model(clip_class().from_pretrained, str(saved), files=FILES)
    tensors = load_file(saved / "model.safetensors")
    assert all(torch.equal(value, tensors[name]) for name, value in model.state_dict().items() if name in tensors)


def test_a_hub_id_is_fetched_by_its_files_only_and_has_the_id_of_its_content(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = hub(monkeypatch, saved)
    assert local_folder("owner/name", files=["config.json", "model.safetensors|model.bin"], revision="abc") == saved
    assert calls[0]["allow_patterns"] == ["config.json", "model.safetensors", "model.bin"]
    assert calls[0]["revision"] == "abc"
    assert weights_id("owner/name", files=FILES) == weights_id(str(saved), files=FILES)


def test_the_id_follows_content_not_place(saved: Path, tmp_path: Path) -> None:
    other = copy(saved, tmp_path / "other")
    (other / "README.md").write_text("a stray file")
    assert weights_id(str(other), files=FILES) == weights_id(str(saved), files=FILES)
    tensors = load_file(saved / "model.safetensors")
    name = sorted(tensors)[3]
    save_file(tensors | {name: tensors[name] + 1e-3}, other / "model.safetensors", metadata={"format": "pt"})
    assert weights_id(str(other), files=FILES) != weights_id(str(saved), files=FILES)


def test_one_changed_tensor_among_large_ones_changes_the_id(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(100_000), "b": torch.zeros(100_000)}
    save_file(tensors, tmp_path / "x.safetensors")
    before = file_id(tmp_path / "x.safetensors")
    save_file(tensors | {"b": torch.full((100_000,), 1e-6)}, tmp_path / "x.safetensors")
    assert file_id(tmp_path / "x.safetensors") != before


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (lambda: LocalEntryNotFoundError("pages of text"), "not in the local cache, and the hub cannot be reached"),
        (lambda: GatedRepoError("pages of text", response=response(403)), "gated"),
        (lambda: RepositoryNotFoundError("pages of text", response=response(401)), "no such public repository"),
        (lambda: ConnectionError("no route"), "ConnectionError: no route"),
    ],
)
def test_a_hub_failure_says_id_files_command_and_mirrors(
    monkeypatch: pytest.MonkeyPatch, failure: Callable[[], Exception], said: str
) -> None:
    hub(monkeypatch, failure())
    with pytest.raises(WeightsError) as caught:
        local_folder("owner/name", files=FILES, mirrors=["else/where"], gated=True)
    command = download_command("owner/name", FILES)
    for part in (
        "cannot get owner/name",
        said,
        command,
        "https://huggingface.co/owner/name",
        "hf auth login",
        "else/where",
    ):
        assert part in str(caught.value)
    assert "pages of text" not in str(caught.value)


def test_no_network_at_all_is_a_weights_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=r"hf download owner/absent --revision v1 --include 'config\.json'"):
        local_folder("owner/absent", files=FILES, revision="v1")
    with pytest.raises(WeightsError, match=r"hf download owner/absent --include 'deep/x\.safetensors'"):
        local_file("owner/absent/deep/x.safetensors")


def test_absent_files_are_named(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no folder \./nowhere to load weights from \(expected config.json"):
        local_folder("./nowhere", files=FILES)
    with pytest.raises(WeightsError, match=r"a\.bin\|b\.bin, unet/\* not found in .*clip"):
        local_folder(str(saved), files=[*FILES, "a.bin|b.bin", "unet/*"])


def test_single_files(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved / "model.safetensors"
    assert local_file(str(path)) == path
    calls = hub(monkeypatch, path)
    assert local_file("owner/name/deep/x.safetensors") == path
    assert (calls[0]["source"], calls[0]["args"]) == ("owner/name", ("deep/x.safetensors",))
    with pytest.raises(WeightsError, match="no file owner/name; give the path"):
        local_file("owner/name")


def test_truncated_weights_are_refused(saved: Path, tmp_path: Path) -> None:
    other = copy(saved, tmp_path / "other")
    path = other / "model.safetensors"
    whole = path.read_bytes()
    for length in (4, 100, len(whole) - 10):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"damaged or of another architecture"):
            load_model(clip_class().from_pretrained, str(other), files=FILES)
        with pytest.raises(FileError, match="expected a readable weights file"):
            read_tensors(path)
    path.write_bytes(whole[:100])
    with pytest.raises(FileError, match="expected a readable weights file"):
        file_id(path)


def test_weights_of_another_architecture_are_refused(saved: Path, tmp_path: Path) -> None:
    other = copy(saved, tmp_path / "other")
    small_config(layers=2).save_pretrained(other)
    with pytest.raises(
        WeightsError, match=r"another architecture than CLIPVisionModelWithProjection \(\d+ tensors absent"
    ):
        load_model(clip_class().from_pretrained, str(other), files=FILES)


def test_broken_json_is_refused(saved: Path, tmp_path: Path) -> None:
    other = copy(saved, tmp_path / "other")
    (other / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        load_pretrained(clip_class().from_pretrained, str(other), files=FILES)
