"""Draws that depend on content and seed alone: the same on every machine and in every library version."""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Int, UInt64


def mixed(seed: int, first: Int[np.ndarray, "*n"], second: Int[np.ndarray, "*n"]) -> UInt64[np.ndarray, "*n"]:
    """64 well-mixed bits (splitmix64) per pair of whole numbers, uint64 of their shape."""
    bits = np.full(first.shape, seed, np.uint64)
    for part in (first, second):
        bits = bits + part.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits = bits ^ (bits >> np.uint64(31))
    return bits


def lowest(bits: UInt64[np.ndarray, "n"], count: int) -> Int[np.ndarray, "k"]:
    """Ascending indices of the ``count`` lowest values: a draw without replacement."""
    return np.sort(np.argsort(bits, kind="stable")[:count])


def rank_key(seed: int, name: str) -> bytes:
    """What to sort names by for a seeded order."""
    return hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest()
