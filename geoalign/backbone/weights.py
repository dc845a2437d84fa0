"""Pretrained weights: find them, load them strictly, name them by content, and say what is missing.

``files`` are names or glob patterns inside a folder; ``a|b`` asks for at least one of two.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from geoalign.tensors import read_tensors

_SAMPLE_BYTES = 4096


class WeightsError(ValueError):
    """Weights are absent, gated, damaged or of another architecture; the text says what to do."""


def download_command(source: str, files: Sequence[str], revision: str | None = None) -> str:
    """The command that fetches ``files`` (names or glob patterns) of a hub id.

    >>> download_command("a/b", ["unet/*"])
    "hf download a/b --include 'unet/*' --local-dir weights/b"
    """
    includes = " ".join(f"--include '{name}'" for name in _patterns(files))
    version = f" --revision {revision}" if revision else ""
    return f"hf download {source}{version} {includes} --local-dir weights/{source.split('/')[-1]}"


def local_folder(
    source: str, *, files: Sequence[str], revision: str | None = None, mirrors: Sequence[str] = (), gated: bool = False
) -> Path:
    """Folder that holds ``files`` (patterns, each must match): ``source`` itself, or the hub's cache of it.

    A hub id is downloaded, those files only, where it is not cached. ``mirrors`` (ids of the same weights) and
    ``gated`` (a licence must be accepted first) only make the :class:`WeightsError` more helpful.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    advice = _advice(source, files, revision, mirrors, gated)
    if Path(source).is_dir():
        folder = Path(source)
    elif _looks_like_path(source):
        raise WeightsError(f"no folder {source} to load weights from (expected {', '.join(files)} in it)")
    else:
        try:
            folder = Path(snapshot_download(source, revision=revision, allow_patterns=_patterns(files)))
        except (OSError, HFValidationError) as error:
            raise WeightsError(f"cannot get {source}: {_reason(error)}. {advice}") from error
    missing = [name for name in files if not any(True for part in name.split("|") for _ in folder.glob(part))]
    if missing:
        raise WeightsError(f"{source}: {', '.join(missing)} not found in {folder}. {advice}")
    return folder


def load_pretrained(
    loader: Callable[..., Any],
    source: str,
    *,
    files: Sequence[str],
    revision: str | None = None,
    mirrors: Sequence[str] = (),
    gated: bool = False,
    **kwargs: Any,
) -> Any:
    """``loader(folder, **kwargs)`` on the folder of ``source``; every failure becomes a :class:`WeightsError`.

    ``loader`` is a ``from_pretrained``; the rest is as in :func:`local_folder`.
    """
    from safetensors import SafetensorError

    folder = local_folder(source, files=files, revision=revision, mirrors=mirrors, gated=gated)
    try:
        return loader(str(folder), local_files_only=True, **kwargs)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        advice = _advice(source, files, revision, mirrors, gated)
        place = source if str(folder) == source else f"{source} (in {folder})"
        raise WeightsError(
            f"{place}: {', '.join(files)} cannot be loaded, they are damaged or of another architecture: "
            f"{_reason(error)}. {advice}"
        ) from error


def load_model(loader: Callable[..., Any], source: str, *, files: Sequence[str], **kwargs: Any) -> Any:
    """Like :func:`load_pretrained` for a diffusers or transformers model class, from safetensors unless told.

    No tensor of the model may be absent from the file or have another shape; further tensors in the file are fine.
    """
    options = {"use_safetensors": True, "output_loading_info": True} | kwargs
    model, info = load_pretrained(loader, source, files=files, **options)
    faults = [str(key) for name in ("missing_keys", "mismatched_keys", "error_msgs") for key in info.get(name, ())]
    if faults:
        raise WeightsError(
            f"{source}: {', '.join(files)} are weights of another architecture than {type(model).__name__} "
            f"({len(faults)} tensors absent or of another shape, the first: {sorted(faults)[0]}); "
            "set the id or folder to weights that fit its config.json"
        )
    return model


def weights_id(source: str, *, files: Sequence[str], revision: str | None = None) -> str:
    """Short content hash of the files that match the patterns; a folder and a hub id of the same weights agree.

    Tensors are sampled (header, and 4 KiB from the middle of each), so that gigabytes take milliseconds.
    """
    folder = local_folder(source, files=files, revision=revision)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    chosen = [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in _patterns(files))]
    content = "".join(f"{name}:{file_id(folder / name)};" for name in chosen)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def local_file(source: str) -> Path:
    """A single weights file: a path, or ``owner/name/file`` on the hub."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    if Path(source).is_file():
        return Path(source)
    owner, _, rest = source.partition("/")
    name, _, file = rest.partition("/")
    if source.startswith((".", "/", "~")) or not file:
        raise WeightsError(f"no file {source}; give the path of a file, or owner/name/file on the hub")
    try:
        return Path(hf_hub_download(f"{owner}/{name}", file))
    except (OSError, HFValidationError) as error:
        command = download_command(f"{owner}/{name}", [file])
        raise WeightsError(
            f"cannot get {source}: {_reason(error)}. With network: `{command}`, and set the option to that file."
        ) from error


def file_id(path: str | Path) -> str:
    """Short content hash of one file; a safetensors file is sampled tensor by tensor.

    Hashing all of Stable Diffusion's UNet (3.4 GB) takes seconds at every start, sampling it milliseconds.

    Raises:
        FileError: a safetensors file that is not whole.
    """
    path = Path(path)
    digest = hashlib.sha256(str(path.stat().st_size).encode())
    tensors = read_tensors(path)[0] if path.suffix == ".safetensors" else None
    with path.open("rb") as file:
        if tensors is None:
            for piece in iter(lambda: file.read(1 << 20), b""):
                digest.update(piece)
        else:
            digest.update(file.read(int.from_bytes(file.read(8), "little")))
    for _, tensor in sorted((tensors or {}).items()):
        data = tensor.flatten().view(torch.uint8)
        start = max(0, (len(data) - _SAMPLE_BYTES) // 2)
        digest.update(data[start : start + _SAMPLE_BYTES].numpy())
    return digest.hexdigest()[:16]


def _patterns(files: Sequence[str]) -> list[str]:
    return [part for name in files for part in name.split("|")]


def _looks_like_path(source: str) -> bool:
    return source.startswith((".", "/", "~")) or source.count("/") > 1


def _advice(source: str, files: Sequence[str], revision: str | None, mirrors: Sequence[str], gated: bool) -> str:
    if Path(source).is_dir():
        return f"Put whole and fitting files there, or set the option to a hub id; needed: {', '.join(files)}."
    steps = [f"With network: `{download_command(source, files, revision)}`, and set the option to that folder."]
    if gated:
        steps.insert(0, f"Accept the licence at https://huggingface.co/{source} and run `hf auth login` first.")
    if mirrors:
        steps.append(f"The same weights elsewhere: {', '.join(mirrors)}.")
    return " ".join(steps)


def _reason(error: Exception) -> str:
    """What went wrong in a few words; hub errors carry pages of text."""
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return "the repository is gated and this account has no access"
    if isinstance(error, RepositoryNotFoundError):
        return "the hub has no such public repository (private and gated ones look the same without `hf auth login`)"
    if isinstance(error, LocalEntryNotFoundError):
        return "not in the local cache, and the hub cannot be reached"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"
