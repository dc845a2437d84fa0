"""Convex solids in their own frames and the rays that meet them, in NumPy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

MISS = np.float32(np.inf)


class Solid(ABC):
    """A convex body in its own frame."""

    @abstractmethod
    def bounds(self) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
        """Lowest and highest corner, each ``(3)``."""

    @abstractmethod
    def hit(self, origin: Float[np.ndarray, "3 #k"], direction: Float[np.ndarray, "3 #k"]) -> Float[np.ndarray, "k"]:
        """Where rays ``(3 k)`` enter the body, ``(k)``; infinite where they miss."""

    @abstractmethod
    def normal(self, point: Float[np.ndarray, "3 k"]) -> Float[np.ndarray, "3 k"]:
        """Outward direction (any length) at surface points ``(3 k)``."""


@dataclass(frozen=True)
class Ball(Solid):
    """The unit ball."""

    def bounds(self) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
        """The cube around it."""
        return -np.ones(3), np.ones(3)

    def hit(self, origin: Float[np.ndarray, "3 #k"], direction: Float[np.ndarray, "3 #k"]) -> Float[np.ndarray, "k"]:
        """Near root of the ray's quadratic."""
        return _near_root(dot(direction, direction), dot(origin, direction), dot(origin, origin) - 1)

    def normal(self, point: Float[np.ndarray, "3 k"]) -> Float[np.ndarray, "3 k"]:
        """The point itself."""
        return point


@dataclass(frozen=True)
class RoundCone(Solid):
    """Two balls on the x axis, at 0 and at ``length``, and the cone tangent to both (a limb)."""

    length: float
    start: float
    end: float

    def bounds(self) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
        """The box around both balls."""
        widest = max(self.start, self.end)
        low = [min(-self.start, self.length - self.end), -widest, -widest]
        return np.array(low), np.array([max(self.start, self.length + self.end), widest, widest])

    def hit(self, origin: Float[np.ndarray, "3 #k"], direction: Float[np.ndarray, "3 #k"]) -> Float[np.ndarray, "k"]:
        """Nearest of the two balls and the tangent cone between their circles of contact."""
        a, along, speed = dot(direction, direction), origin[0], direction[0]
        b, c = dot(origin, direction), dot(origin, origin)
        first = _near_root(a, b, c - np.float32(self.start**2))
        length = np.float32(self.length)
        second = _near_root(a, b - length * speed, c - 2 * length * along + np.float32(length**2 - self.end**2))
        balls = np.minimum(first, second)
        if abs(self.start - self.end) >= self.length:
            return balls
        return np.minimum(balls, self._flank(origin, direction))

    def _flank(self, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
        sin = np.float32((self.start - self.end) / self.length)
        cos2 = 1 - sin * sin
        reach, shrink = np.float32(self.start) - sin * origin[0], -sin * direction[0]
        a = cos2 * (direction[1] ** 2 + direction[2] ** 2) - shrink * shrink
        b = cos2 * (origin[1] * direction[1] + origin[2] * direction[2]) - reach * shrink
        c = cos2 * (origin[1] ** 2 + origin[2] ** 2) - reach * reach
        square = b * b - a * c
        root = np.sqrt(np.maximum(square, 0))
        low, high = self.start * float(sin), self.length + self.end * float(sin)
        safe = np.where(np.abs(a) < 1e-9, np.float32(1e-9), a)
        # Rays steeper than the cone (a < 0) may enter at the other root.
        nearest = np.full_like(a, MISS)
        for t in ((-b - root) / safe, (-b + root) / safe)[: 2 if (a < 0).any() else 1]:
            s = origin[0] + t * direction[0]
            valid = (square >= 0) & (s > low) & (s < high)
            nearest = np.minimum(nearest, np.where(valid, t, MISS))
        return nearest

    def normal(self, point: Float[np.ndarray, "3 k"]) -> Float[np.ndarray, "3 k"]:
        """Away from the centre of the ball that touches the surface there."""
        sin = (self.start - self.end) / self.length if abs(self.start - self.end) < self.length else 0.0
        cos = np.sqrt(1 - sin * sin)
        radial = np.sqrt(point[1] ** 2 + point[2] ** 2)
        foot = np.clip(point[0] - radial * np.float32(sin / cos), 0, self.length)
        return np.stack([point[0] - foot, point[1], point[2]])


@dataclass(frozen=True)
class Polyhedron(Solid):
    """Where every ``normal . p <= offset``; the planes must enclose a bounded body."""

    planes: tuple[tuple[float, float, float, float], ...]
    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def bounds(self) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
        """The box it was cut from."""
        return np.array(self.low), np.array(self.high)

    def _table(self) -> tuple[Float[np.ndarray, "p 3"], Float[np.ndarray, "p 1"]]:
        box = [(*row, high) for row, high in zip(np.eye(3), self.high, strict=True)]
        box += [(*-row, -low) for row, low in zip(np.eye(3), self.low, strict=True)]
        table = np.array(box + list(self.planes), np.float32)
        return table[:, :3], table[:, 3:]

    def hit(self, origin: Float[np.ndarray, "3 #k"], direction: Float[np.ndarray, "3 #k"]) -> Float[np.ndarray, "k"]:
        """Last plane entered, if before the first plane left."""
        enter = np.full_like(origin[0] * direction[0], -MISS)
        leave = -enter
        for normal, offset in zip(*self._table(), strict=True):  # one plane at a time stays in the cache
            speed = normal @ direction
            t = (offset - normal @ origin) / np.where(np.abs(speed) < 1e-9, np.float32(1e-9), speed)
            np.maximum(enter, t, out=enter, where=speed < 0)
            np.minimum(leave, t, out=leave, where=speed >= 0)
        return np.where(enter < leave, enter, MISS)

    def normal(self, point: Float[np.ndarray, "3 k"]) -> Float[np.ndarray, "3 k"]:
        """The normal of the plane the point lies on."""
        return self._table()[0][self.depths(point).argmax(0)].T

    def depths(self, point: Float[np.ndarray, "3 k"]) -> Float[np.ndarray, "p k"]:
        """How far points ``(3 k)`` lie beyond each plane, ``(planes k)``; negative inside."""
        normals, offsets = self._table()
        return normals @ point - offsets


@dataclass(frozen=True)
class Cylinder(Solid):
    """Radius 1 about the y axis, from y = -1 to 1."""

    def bounds(self) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
        """The cube around it."""
        return -np.ones(3), np.ones(3)

    def hit(self, origin: Float[np.ndarray, "3 #k"], direction: Float[np.ndarray, "3 #k"]) -> Float[np.ndarray, "k"]:
        """Later of entering the round and entering the flat side, if before leaving either."""
        a = np.maximum(direction[0] ** 2 + direction[2] ** 2, np.float32(1e-9))
        b = origin[0] * direction[0] + origin[2] * direction[2]
        c = origin[0] ** 2 + origin[2] ** 2 - 1
        root = np.sqrt(np.maximum(b * b - a * c, 0))
        speed = np.where(np.abs(direction[1]) < 1e-9, np.float32(1e-9), direction[1])
        flats = np.stack([(-1 - origin[1]) / speed, (1 - origin[1]) / speed])
        enter, leave = np.maximum((-b - root) / a, flats.min(0)), np.minimum((-b + root) / a, flats.max(0))
        return np.where((b * b >= a * c) & (enter < leave), enter, MISS)

    def normal(self, point: Float[np.ndarray, "3 k"]) -> Float[np.ndarray, "3 k"]:
        """Along y on the flat sides, outward on the round one."""
        flat = np.abs(point[1]) > np.sqrt(point[0] ** 2 + point[2] ** 2)
        zero = np.zeros_like(point[0])
        return np.where(flat, np.stack([zero, point[1], zero]), np.stack([point[0], zero, point[2]]))


def dot(a: Float[np.ndarray, "3 *#k"], b: Float[np.ndarray, "3 *#k"]) -> Float[np.ndarray, "*k"]:
    """Products of vectors ``(3, …)``, summed over their components."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _near_root(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Smaller root of ``a t^2 + 2 b t + c``, infinite where there is none; ``a > 0``."""
    disc = b * b - a * c
    return np.where(disc > 0, (-b - np.sqrt(np.maximum(disc, 0))) / a, MISS)
