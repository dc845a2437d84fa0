"""What a tail started from: kept beside its trained tensors, and compared when they are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from geoalign.blocks.base import is_start
from geoalign.refiner.base import CheckpointError

BEGAN = "began"
"""Name of the tensor that tells it in a tail's state: ``hash id`` in UTF-8, as bytes of a fixed number."""
_BYTES = 160
_SAME = ("family", "hash", "cut", "taps", "tokens", "config", "normed", "image_size")
"""Of a network: what makes two of them one, as far as weights go."""


def began(network: Mapping[str, Any]) -> Tensor:
    """Hash and id of a network's weights as a tensor, so that any file of tensors can hold them."""
    text = f"{network['hash'][:64]} {network['id']}".encode()[:_BYTES]
    return torch.tensor(list(text.ljust(_BYTES, b"\0")), dtype=torch.uint8, device="cpu")


def told(value: Tensor) -> tuple[str, str]:
    """Hash and id out of :func:`began`."""
    text = bytes(value.flatten().to("cpu", torch.uint8).tolist()).rstrip(b"\0").decode(errors="replace")
    return text.partition(" ")[0], text.partition(" ")[2]


def check_start(own: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse what lies behind another cut, or other weights.

    Raises:
        CheckpointError: how they differ.
    """
    differing = [name for name in _SAME if own.get(name) != given.get(name)]
    if differing:
        want, got = ([f"{n} {one.get(n)}" for n in ("id", *differing) if n != "config"] for one in (own, given))
        raise CheckpointError(
            f"this tail continues {', '.join(want)}; the backbone is {', '.join(got)}; set the backbone that it was "
            "trained with"
        )


def keep_what_is_trained(tail: nn.Module) -> None:
    """Let a tail's state hold its trained tensors and :data:`BEGAN`, not the frozen ones; loading it stays strict."""
    tail.register_state_dict_post_hook(_leave_out)
    tail.register_load_state_dict_pre_hook(_put_back)


def _frozen(tail: Any) -> dict[str, Tensor]:
    return {f"chain.{n}": p for n, p in tail.chain.named_parameters() if is_start(n) and not p.requires_grad}


def _leave_out(tail: Any, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for name in _frozen(tail):
        del state[prefix + name]
    state[f"{prefix}{BEGAN}"] = began(tail.network)


def _put_back(tail: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Compare what a state started from; frozen tensors are the tail's own."""
    found = state.pop(f"{prefix}{BEGAN}", None)
    want, got = told(began(tail.network)), None if found is None else told(found)
    if got is not None and got[0] != want[0]:
        raise CheckpointError(
            f"these weights were trained from {got[1]} ({got[0]}), the backbone's are {want[1]} ({want[0]}); set the "
            f"backbone to {got[1]}, or train anew"
        )
    frozen = _frozen(tail)
    state |= {prefix + name: value.detach() for name, value in frozen.items()}
    tail.loaded = True
    tail.started = tail.started or not frozen
