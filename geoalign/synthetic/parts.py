"""Solids placed in the world.

A :class:`Part` places a solid by an affine map, so that one unit ball serves every ellipsoid. Ray parameters
``t`` are the same in both frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from geoalign.synthetic.solids import Ball, Cylinder, Polyhedron, RoundCone, Solid, dot

Planes = tuple[tuple[float, float, float, float], ...]


class Part(NamedTuple):
    """A solid in the world: ``local = inverse @ (world - center)``, painted with ``paint``."""

    solid: Solid
    center: Float[np.ndarray, "3"]  # (3)
    inverse: Float[np.ndarray, "3 3"]  # (3 3)
    paint: str
    rigid: bool = False  # hard details (eyes, hooves, glass) keep their edges

    def local(self, point: Float[np.ndarray, "3 k"]) -> Float[np.ndarray, "3 k"]:
        """World points ``(3 k)`` in the solid's frame."""
        return self.inverse.astype(np.float32) @ (point - self.center.astype(np.float32)[:, None])

    def hit(self, origin: Float[np.ndarray, "3 #k"], direction: Float[np.ndarray, "3 #k"]) -> Float[np.ndarray, "k"]:
        """Where world rays (``origin (3 k)`` or ``(3 1)``, ``direction (3 k)``) enter, ``(k)``."""
        turned = self.inverse.astype(np.float32) @ direction
        # Start beside the solid: single precision then keeps thin, far solids smooth.
        ahead = np.float32(np.linalg.norm(self.center - origin[:, 0]))
        return self.solid.hit(self.local(origin) + ahead * turned, turned) + ahead

    def normal(self, point: Float[np.ndarray, "3 k"]) -> Float[np.ndarray, "3 k"]:
        """Unit outward normals at world points ``(3 k)``."""
        normal = self.inverse.T.astype(np.float32) @ self.solid.normal(self.local(point))
        return normal / np.maximum(np.sqrt(dot(normal, normal)), np.float32(1e-9))

    def mirrored(self) -> Part:
        """The part on the other side of the plane y = 0."""
        flip = np.array([1.0, -1.0, 1.0])
        return self._replace(center=self.center * flip, inverse=self.inverse * flip)


def corners(parts: Sequence[Part]) -> Float[np.ndarray, "p 8 3"]:
    """The eight world corners of every part's box, ``(parts 8 3)``."""
    choice = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, 8).T
    low, high = (np.stack(side)[:, None] for side in zip(*(part.solid.bounds() for part in parts), strict=True))
    maps = np.linalg.inv(np.stack([part.inverse for part in parts]))
    return np.stack([part.center for part in parts])[:, None] + np.where(choice == 1, high, low) @ maps.swapaxes(1, 2)


def ellipsoid(
    center: Float[np.ndarray, "3"],
    radii: tuple[float, float, float],
    paint: str,
    axes: Float[np.ndarray, "3 3"] | None = None,
    rigid: bool = False,
) -> Part:
    """An ellipsoid whose half axes ``radii`` lie along the rows of ``axes`` (the world's by default)."""
    rows = np.eye(3) if axes is None else axes
    return Part(Ball(), np.asarray(center, float), rows / np.asarray(radii)[:, None], paint, rigid)


def limb(
    start: Float[np.ndarray, "3"],
    end: Float[np.ndarray, "3"],
    radii: tuple[float, float],
    paint: str,
    squash: float = 1.0,
    flat: Float[np.ndarray, "3"] | tuple[float, float, float] = (0.0, 1.0, 0.0),
    rigid: bool = False,
) -> Part:
    """A round cone from ``start`` to ``end``, ``squash`` times as thick along ``flat`` as across it."""
    along = np.asarray(end, float) - start
    length = float(np.linalg.norm(along))
    x = along / max(length, 1e-9)
    y = np.asarray(flat, float) - np.dot(flat, x) * x
    y /= max(float(np.linalg.norm(y)), 1e-9)
    rows = np.stack([x, y / squash, np.cross(x, y)])
    return Part(RoundCone(length, *radii), np.asarray(start, float), rows, paint, rigid)


def block(
    center: Float[np.ndarray, "3"],
    half: tuple[float, float, float],
    paint: str,
    planes: Planes = (),
) -> Part:
    """A box with half sides ``half``, cut by further ``planes`` (normal, offset) of its own frame."""
    low = (-half[0], -half[1], -half[2])
    return Part(Polyhedron(planes, low, half), np.asarray(center, float), np.eye(3), paint, True)


def disc(center: Float[np.ndarray, "3"], radius: float, half_width: float, paint: str) -> Part:
    """A cylinder about the y direction (a wheel)."""
    return Part(Cylinder(), np.asarray(center, float), np.diag(1 / np.array([radius, half_width, radius])), paint, True)
