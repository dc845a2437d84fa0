"""Files of tensors, read as plain data: nothing in them is executed, and every failure names the file."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from geoalign.files import FileError

REMEDY = "fetch or save it again"


def read_tensors(path: str | Path, mmap: bool = False) -> tuple[Any, dict[str, str]]:
    """What a PyTorch file holds, or the tensors of a ``.safetensors`` by name; and the latter's metadata.

    ``mmap`` leaves what is not used of a large PyTorch file on the disk.

    Raises:
        FileError: no regular file, damaged, or more than plain data in it.
    """
    path = Path(path)
    if not path.is_file():  # a pipe would be waited for
        raise FileError(path, "a weights file", "no regular file", REMEDY)
    try:
        if path.suffix.lower() == ".safetensors":
            with safe_open(path, "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap), {}
    except pickle.UnpicklingError as error:  # torch's own text would advise to load it unsafely
        got = "not a PyTorch file, or more than plain tensors in it"
        raise FileError(path, "a readable weights file", got, "give one that holds a state dict") from error
    # damaged bytes raise whatever the calls raise that they happen to spell
    except (
        RuntimeError, MemoryError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError,
        SafetensorError,
    ) as error:  # fmt: skip
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise FileError(path, "a readable weights file", reason, REMEDY) from error


def fault(value: Any) -> str | None:
    """Why a value is no weight, in words; None for a dense and finite tensor of real numbers."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    if value.layout != torch.strided or value.is_meta or value.is_quantized or value.is_complex():
        return f"a tensor of {value.dtype}, {value.layout}, on {value.device}"
    if value.numel() * value.itemsize > value.untyped_storage().nbytes():  # one number said to be many: a memory bomb
        return f"of {tuple(value.shape)} in {value.untyped_storage().nbytes()} bytes"
    if value.is_floating_point() and not value.to(torch.float32).isfinite().all():
        return "not finite (NaN or infinite)"
    return None
