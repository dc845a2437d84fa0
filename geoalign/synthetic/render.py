"""A camera, its depth buffer and what the buffer says about points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from geoalign.synthetic.parts import Part, corners
from geoalign.synthetic.solids import MISS


class Camera(NamedTuple):
    """A pinhole; pixels are continuous with (0, 0) at the image corner."""

    position: Float[np.ndarray, "3"]
    axes: Float[np.ndarray, "3 3"]  # right, down and forward as rows
    focal_px: float
    centre_px: tuple[float, float]
    size: tuple[int, int]  # (h, w)

    def project(self, point: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 2"]:
        """World points ``(n 3)`` to pixels ``(n 2)``."""
        seen = (point - self.position) @ self.axes.T
        return seen[:, :2] / seen[:, 2:] * self.focal_px + np.array(self.centre_px)

    def rays(self, x_px: Float[np.ndarray, "k"], y_px: Float[np.ndarray, "k"]) -> Float[np.ndarray, "3 k"]:
        """Unit directions ``(3 k)`` through pixels."""
        x = (x_px - self.centre_px[0]) / self.focal_px
        y = (y_px - self.centre_px[1]) / self.focal_px
        axes = self.axes.astype(np.float32)
        direction = axes[0][:, None] * x + axes[1][:, None] * y + axes[2][:, None]
        return direction / np.sqrt((direction * direction).sum(0))


class Hits(NamedTuple):
    """What rays met first: distance along each and index of the part (-1 = ground or sky)."""

    ray: Float[np.ndarray, "3 *k"]  # unit directions
    distance: Float[np.ndarray, "*k"]
    part: Int[np.ndarray, "*k"]

    def point(self, camera: Camera) -> Float[np.ndarray, "3 *k"]:
        """Where they met it, ``(3 ...)``."""
        place = camera.position.astype(np.float32).reshape(3, *[1] * self.distance.ndim)
        return place + self.ray * self.distance


def look_at(
    target: Float[np.ndarray, "3"], azimuth: float, elevation: float, distance: float, roll: float = 0.0
) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3 3"]]:
    """Position and axes of a camera around ``target``, angles in radians.

    Azimuth 0 sees a body that faces +x from the front, 90 degrees sees its left side.
    """
    around = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    forward = -around
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    turned = np.cos(roll) * right + np.sin(roll) * down, np.cos(roll) * down - np.sin(roll) * right
    return target + distance * around, np.stack([*turned, forward])


def cast(parts: Sequence[Part], camera: Camera, first: int = 0, behind: Hits | None = None) -> Hits:
    """Meet every part with the ray through each pixel's centre, ``(h w)``.

    With ``behind`` the parts join what is there already, numbered from ``first``.
    """
    if behind is None:
        h, w = camera.size
        x, y = np.broadcast_arrays(np.arange(w) + np.float32(0.5), np.arange(h)[:, None] + np.float32(0.5))
        ray = camera.rays(x.ravel(), y.ravel()).reshape(3, h, w)
        behind = Hits(ray, _ground_distance(camera, ray), np.full((h, w), -1, np.int16))
    hits = Hits(behind.ray, behind.distance.copy(), behind.part.copy())
    origin = camera.position.astype(np.float32)[:, None]
    for number, (part, place) in enumerate(zip(parts, _projected(parts, camera), strict=True), first):
        box = _window(place, camera.size)
        if box is None:
            continue
        rays = hits.ray[:, box[0], box[1]]
        t = part.hit(origin, rays.reshape(3, -1)).reshape(rays.shape[1:])
        closer = (t < hits.distance[box]) & (t > 0)
        hits.distance[box][closer] = t[closer]
        hits.part[box][closer] = number
    return hits


def trace(parts: Sequence[Part], camera: Camera, xy_px: Float[np.ndarray, "k 2"]) -> Hits:
    """Meet every part with the rays through scattered places ``(k 2)``, ``(k)``."""
    x, y = xy_px.astype(np.float32).T
    ray = camera.rays(x, y)
    hits = Hits(ray, _ground_distance(camera, ray), np.full(len(x), -1, np.int16))
    origin = camera.position.astype(np.float32)[:, None]
    for number, (part, place) in enumerate(zip(parts, _projected(parts, camera), strict=True)):
        low, high = place.min(0), place.max(0)
        near = np.flatnonzero((x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1]))
        if not len(near):
            continue
        t = part.hit(origin, ray[:, near])
        closer = (t < hits.distance[near]) & (t > 0)
        hits.distance[near[closer]], hits.part[near[closer]] = t[closer], number
    return hits


def shadow(
    parts: Sequence[Part], light: Float[np.ndarray, "3"], grid: Float[np.ndarray, "h w 2"]
) -> Bool[np.ndarray, "h w"]:
    """Which ground points ``(h w 2)`` the parts keep from the light's direction ``(3)``, ``(h w)`` bool."""
    h, w = grid.shape[:2]
    shaded = np.zeros((h, w), bool)
    direction = light.astype(np.float32)[:, None]
    solid = corners(parts)
    fallen = solid[..., :2] - solid[..., 2:] * light[:2] / light[2]
    places = (fallen - grid[0, 0]) / (grid[-1, -1] - grid[0, 0]) * np.array([w - 1, h - 1])
    for part, place in zip(parts, places, strict=True):
        box = _window(place, (h, w))
        if box is None:
            continue
        ground = np.concatenate([grid[box], np.zeros((*grid[box].shape[:2], 1))], 2).astype(np.float32)
        shaded[box] |= np.isfinite(part.hit(ground.reshape(-1, 3).T, direction)).reshape(ground.shape[:2])
    return shaded


def in_sight(
    camera: Camera,
    points: Float[np.ndarray, "n 3"],
    tolerance: Float[np.ndarray, "n"],
    distance: Float[np.ndarray, "n"],
) -> Bool[np.ndarray, "n"]:
    """Which world points ``(n 3)`` are in the image with nothing more than ``tolerance (n)`` in front, ``(n)``.

    ``distance (n)`` is how far the rays through the points go (see :func:`trace`).
    """
    xy = camera.project(points)
    inside = ((xy >= 0) & (xy < np.array(camera.size)[::-1])).all(1)
    return inside & (distance > np.linalg.norm(points - camera.position, axis=1) - tolerance)


def surface_points(
    parts: Sequence[Part],
    inside: Float[np.ndarray, "n 3"],
    outward: Float[np.ndarray, "n 3"],
    reach: Float[np.ndarray, "n"],
) -> Float[np.ndarray, "n 3"]:
    """Where lines from ``reach (n)`` away along ``outward (n 3)`` to points inside ``(n 3)`` meet the parts, ``(n 3)``.

    Raises ValueError where one meets none.
    """
    direction = -outward / np.linalg.norm(outward, axis=1, keepdims=True)
    origin = inside - reach[:, None] * direction
    rays = origin.astype(np.float32).T, direction.astype(np.float32).T
    met = np.stack([part.hit(*rays) for part in parts])
    nearest = np.where(met > 0, met, MISS).min(0)
    if not np.isfinite(nearest).all():
        raise ValueError(f"no part lies on the line through {inside[~np.isfinite(nearest)]}; move the inner point")
    return origin + nearest[:, None] * direction


def _ground_distance(camera: Camera, direction: np.ndarray) -> np.ndarray:
    """Distance to the plane z = 0, infinite above the horizon."""
    down = np.maximum(-direction[2], np.float32(1e-9))
    return np.where(direction[2] < 0, np.float32(camera.position[2]) / down, MISS)


def _projected(parts: Sequence[Part], camera: Camera) -> np.ndarray:
    """The corners of every part's box in pixels, ``(parts 8 2)``."""
    return camera.project(corners(parts).reshape(-1, 3)).reshape(-1, 8, 2) if parts else np.zeros((0, 8, 2))


def _window(xy: np.ndarray, size: tuple[int, int]) -> tuple[slice, slice] | None:
    low = np.floor(xy.min(0)).astype(int).clip(0)
    high = (np.ceil(xy.max(0)).astype(int) + 1).clip(None, [size[1], size[0]])
    if (low >= high).any():
        return None
    return slice(low[1], high[1]), slice(low[0], high[0])
