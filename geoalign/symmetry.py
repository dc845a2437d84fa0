"""Mirror pairs and geometry-aware groups of a category's keypoints."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64


class Symmetry(NamedTuple):
    """Facts about one category's keypoint slots (0-based)."""

    names: tuple[str, ...]
    mirror_pairs: tuple[tuple[int, int], ...]
    groups: tuple[tuple[int, ...], ...]
    side: tuple[int, ...] = ()  # 0 neutral, 1 left, 2 right

    def problems(self, slots: int) -> list[str]:
        """What is wrong with the table for images of ``slots`` keypoints; empty when sound."""
        paired = [i for pair in self.mirror_pairs for i in pair]
        grouped = [i for group in self.groups for i in group]
        wrong = [f"mirror_pairs: {list(p)} is not a pair of two slots" for p in self.mirror_pairs if len(set(p)) != 2]
        wrong += [f"groups: {list(g)} needs two different slots or more" for g in self.groups if len(set(g)) < 2]
        for field, indices in (("mirror_pairs", paired), ("groups", grouped)):
            wrong += [f"{field}: slot {i} is not in 0..{slots - 1}" for i in indices if not 0 <= i < slots]
            wrong += [f"{field}: slot {i} appears more than once" for i in sorted(set(indices)) if indices.count(i) > 1]
        for field, length in (("names", len(self.names)), ("side", len(self.side))):
            wrong += [f"{field}: {length} entries for {slots} slots"] if length > slots else []
        wrong += ["names: two slots share a name"] if len(set(self.names)) < len(self.names) else []
        return wrong or self._mismatches(slots)

    def _mismatches(self, slots: int) -> list[str]:
        """Disagreements between sound lists; slots beyond ``side`` are neutral, neutral slots may have any group."""
        side = dict(enumerate(self.side))
        partner = self.permutation(slots)
        wrong = [f"side: {s} of slot {i} is not 0, 1 or 2" for i, s in side.items() if s not in (0, 1, 2)]
        for i in (i for i, s in side.items() if s):
            if side.get(int(partner[i]), 0) != 3 - side[i]:
                wrong.append(
                    f"side: slot {i} is on side {side[i]} but its mirror partner {partner[i]} not on the other"
                )
        for group in self.groups:
            lost = [i for i in group if side.get(i, 0) and int(partner[i]) not in group]
            wrong += [f"groups: {list(group)} has slot {i} but not its mirror partner {partner[i]}" for i in lost]
        return wrong

    def permutation(self, slots: int) -> Int64[np.ndarray, "n"]:
        """Slot to its mirror partner (itself where neutral), for ``n = slots``; an involution."""
        partner = np.arange(slots)
        for a, b in self.mirror_pairs:
            partner[a], partner[b] = b, a
        return partner

    def related(self, slots: int) -> Bool[np.ndarray, "n n"]:
        """Which slots are other instances of the same part, or mirror partners."""
        related = np.zeros((slots, slots), dtype=bool)
        for group in (*self.groups, *self.mirror_pairs):
            related[np.ix_(group, group)] = True
        np.fill_diagonal(related, False)
        return related

    def geometry_aware(
        self, visible: Bool[np.ndarray, "n"], trg_visible: Bool[np.ndarray, "n"]
    ) -> Bool[np.ndarray, "n"]:
        """Slots of the geometry-aware subset: visible in both, >= 2 of its group visible in the target.

        Source: docs/protocol.md#metrics.
        """
        chosen = np.zeros_like(visible)
        for group in self.groups:
            members = list(group)
            chosen[members] = visible[members] & (trg_visible[members].sum() >= 2)
        return chosen
