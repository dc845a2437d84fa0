"""A finished body with its keypoints, and the builder that puts one together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from geoalign.synthetic.parts import Part
from geoalign.synthetic.render import surface_points
from geoalign.synthetic.species import KEYPOINTS, symmetry

SIDES = (("left", 1.0), ("right", -1.0))
"""Names of the sides and their sign along y."""


Direction = tuple[float, float, float] | Float[np.ndarray, "3"]


class Model(NamedTuple):
    """A body in the world and its keypoints, one row per slot of its category."""

    category: str
    parts: list[Part]
    points: Float[np.ndarray, "n 3"]
    tolerance: Float[np.ndarray, "n"]  # how much of the body may lie in front of a visible keypoint

    def mirrored(self) -> Model:
        """The body seen in the plane y = 0, with left and right renamed."""
        partner = symmetry(self.category).permutation(len(self.points))
        points = self.points[partner] * np.array([1.0, -1.0, 1.0])
        return Model(self.category, [part.mirrored() for part in self.parts], points, self.tolerance[partner])


class Builder:
    """Collects parts and named keypoints while a body is put together."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._joints: dict[str, tuple[np.ndarray, float]] = {}
        self._skin: dict[str, tuple[np.ndarray, np.ndarray, float]] = {}

    def add(self, *parts: Part) -> None:
        """Take parts in."""
        self.parts.extend(parts)

    def joint(self, name: str, point: Float[np.ndarray, "3"], radius: float) -> None:
        """A keypoint in the middle of a limb, seen from every side."""
        self._joints[name] = (np.asarray(point, float), 1.35 * radius + 0.02)

    def skin(self, name: str, inside: Float[np.ndarray, "3"], outward: Direction, reach: float = 0.6) -> None:
        """A keypoint on the surface of the finished body, met on the way in from ``reach`` away along ``outward``."""
        self._skin[name] = (np.asarray(inside, float), np.asarray(outward, float), reach)

    def surface(
        self, inside: Float[np.ndarray, "n 3"], outward: Float[np.ndarray, "n 3"], reach: float
    ) -> Float[np.ndarray, "n 3"]:
        """The points of what stands so far that :meth:`skin` would find, ``(n 3)``."""
        return surface_points(self.parts, inside, outward, np.full(len(inside), reach))

    def model(self, category: str) -> Model:
        """The finished body."""
        inside, outward, reach = (np.stack(column) for column in zip(*self._skin.values(), strict=True))
        found = surface_points(self.parts, inside, outward, reach)
        points = self._joints | {name: (p, 0.05) for name, p in zip(self._skin, found, strict=True)}
        chosen = [points[name] for name in KEYPOINTS[category]]
        return Model(category, self.parts, np.stack([p for p, _ in chosen]), np.array([t for _, t in chosen]))
