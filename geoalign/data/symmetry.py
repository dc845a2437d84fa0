"""Mirror pairs and geometry-aware groups of a category's keypoints."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Symmetry(NamedTuple):
    """Facts about one category's keypoint slots (0-based)."""

    names: tuple[str, ...]
    mirror_pairs: tuple[tuple[int, int], ...]
    groups: tuple[tuple[int, ...], ...]
    side: tuple[int, ...] = ()  # 0 neutral, 1 left, 2 right

    def permutation(self, slots: int) -> np.ndarray:
        """Slot to its mirror partner (itself where neutral), ``(slots)`` int64; an involution."""
        partner = np.arange(slots)
        for a, b in self.mirror_pairs:
            partner[a], partner[b] = b, a
        return partner

    def geometry_aware(self, visible: np.ndarray, trg_visible: np.ndarray) -> np.ndarray:
        """Slots of the geometry-aware subset: visible in both, >= 2 of its group visible in the target."""
        chosen = np.zeros_like(visible)
        for group in self.groups:
            members = list(group)
            chosen[members] = visible[members] & (trg_visible[members].sum() >= 2)
        return chosen
