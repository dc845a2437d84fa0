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

    def problems(self, slots: int) -> list[str]:
        """What is wrong with the table for images of ``slots`` keypoints; empty when sound."""
        paired = [i for pair in self.mirror_pairs for i in pair]
        grouped = [i for group in self.groups for i in group]
        found = [f"mirror_pairs: {list(p)} is not a pair of two slots" for p in self.mirror_pairs if len(set(p)) != 2]
        found += [f"groups: {list(g)} needs two different slots or more" for g in self.groups if len(set(g)) < 2]
        for field, indices in (("mirror_pairs", paired), ("groups", grouped)):
            found += [f"{field}: slot {i} is not in 0..{slots - 1}" for i in indices if not 0 <= i < slots]
            found += [f"{field}: slot {i} appears more than once" for i in sorted(set(indices)) if indices.count(i) > 1]
        for field, length in (("names", len(self.names)), ("side", len(self.side))):
            found += [f"{field}: {length} entries for {slots} slots"] if length > slots else []
        found += ["names: two slots share a name"] if len(set(self.names)) < len(self.names) else []
        return found or self._mismatches(slots)

    def _mismatches(self, slots: int) -> list[str]:
        """Disagreements between sound lists; slots beyond ``side`` are neutral, neutral slots may have any group."""
        side = dict(enumerate(self.side))
        partner = self.permutation(slots)
        found = [f"side: {s} of slot {i} is not 0, 1 or 2" for i, s in side.items() if s not in (0, 1, 2)]
        for i in (i for i, s in side.items() if s):
            if side.get(int(partner[i]), 0) != 3 - side[i]:
                found.append(
                    f"side: slot {i} is on side {side[i]} but its mirror partner {partner[i]} not on the other"
                )
        for group in self.groups:
            lost = [i for i in group if side.get(i, 0) and int(partner[i]) not in group]
            found += [f"groups: {list(group)} has slot {i} but not its mirror partner {partner[i]}" for i in lost]
        return found if (partner[partner] == np.arange(slots)).all() else [*found, "mirror_pairs: not an involution"]

    def permutation(self, slots: int) -> np.ndarray:
        """Slot to its mirror partner (itself where neutral), ``(slots)`` int64; an involution."""
        partner = np.arange(slots)
        for a, b in self.mirror_pairs:
            partner[a], partner[b] = b, a
        return partner

    def related(self, slots: int) -> np.ndarray:
        """``(slots slots)`` bool: which slots are other instances of the same part, or mirror partners."""
        found = np.zeros((slots, slots), dtype=bool)
        for group in (*self.groups, *self.mirror_pairs):
            found[np.ix_(group, group)] = True
        np.fill_diagonal(found, False)
        return found

    def geometry_aware(self, visible: np.ndarray, trg_visible: np.ndarray) -> np.ndarray:
        """Slots of the geometry-aware subset: visible in both, >= 2 of its group visible in the target."""
        chosen = np.zeros_like(visible)
        for group in self.groups:
            members = list(group)
            chosen[members] = visible[members] & (trg_visible[members].sum() >= 2)
        return chosen
