"""A chain of any family from plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from geoalign.blocks.base import Chain
from geoalign.blocks.lite import LiteChain
from geoalign.blocks.vit import VitChain

FAMILIES: dict[str, type[Chain]] = {"lite": LiteChain, "transformers": VitChain}
_COMMON = ("family", "id", "hash", "cut", "taps", "tokens", "first", "inputs", "outputs", "groups")


def make_chain(network: Mapping[str, Any]) -> Chain:
    """The blocks that a :class:`geoalign.blocks.Rest` tells of, without their weights; no file is read.

    Raises:
        ValueError: it tells of none.
    """
    missing = [name for name in _COMMON if name not in network]
    if missing or network["family"] not in FAMILIES:
        got = f"nothing of {', '.join(missing)}" if missing else f"family {network['family']!r}"
        raise ValueError(f"refiner.network is what a backbone with a cut says of itself, got {got}; leave it null")
    chain = FAMILIES[network["family"]](network)
    _ = chain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return chain.requires_grad_(False)
