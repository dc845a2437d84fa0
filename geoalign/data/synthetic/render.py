"""A camera, its depth buffer and what the buffer says about points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from geoalign.data.synthetic.parts import Part, corners
from geoalign.data.synthetic.solids import MISS


class Camera(NamedTuple):
    """A pinhole; pixels are continuous with (0, 0) at the image corner."""

    position: np.ndarray  # (3)
    axes: np.ndarray  # (3 3): right, down and forward as rows
    focal_px: float
    centre_px: tuple[float, float]
    size: tuple[int, int]  # (h, w)

    def project(self, point: np.ndarray) -> np.ndarray:
        """World points ``(n 3)`` to pixels ``(n 2)``."""
        seen = (point - self.position) @ self.axes.T
        return seen[:, :2] / seen[:, 2:] * self.focal_px + np.array(self.centre_px)

    def rays(self, x_px: np.ndarray, y_px: np.ndarray) -> np.ndarray:
        """Unit directions ``(3 k)`` through pixels."""
        x = (x_px - self.centre_px[0]) / self.focal_px
        y = (y_px - self.centre_px[1]) / self.focal_px
        axes = self.axes.astype(np.float32)
        direction = axes[0][:, None] * x + axes[1][:, None] * y + axes[2][:, None]
        return direction / np.sqrt((direction * direction).sum(0))

    def grid(self, samples: int = 1) -> np.ndarray:
        """Unit directions ``(3 h w)`` of every sample."""
        h, w = self.size[0] * samples, self.size[1] * samples
        columns = (np.arange(w, dtype=np.float32) + 0.5) / samples
        rows = (np.arange(h, dtype=np.float32)[:, None] + 0.5) / samples
        x, y = np.broadcast_arrays(columns, rows)
        return self.rays(x.ravel(), y.ravel()).reshape(3, h, w)


class Buffer(NamedTuple):
    """First hit of every sample: distance along its ray and index of the part (-1 = ground or sky)."""

    distance: np.ndarray  # (h w) float32
    part: np.ndarray  # (h w) int16
    ray: np.ndarray  # (3 h w) unit directions
    parts: int  # how many were met


def look_at(
    target: np.ndarray, azimuth: float, elevation: float, distance: float, roll: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
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


def cast(parts: Sequence[Part], camera: Camera, samples: int = 1, behind: Buffer | None = None) -> Buffer:
    """Meet every part with the rays inside its projected box, ``samples`` squared rays a pixel.

    With ``behind`` the parts are added to a buffer and numbered after those already in it.
    """
    h, w = camera.size[0] * samples, camera.size[1] * samples
    if behind is None:
        ray = camera.grid(samples)
        behind = Buffer(_ground_distance(camera, ray), np.full((h, w), -1, np.int16), ray, 0)
    if not parts:
        return behind
    distance, index, first = behind.distance.copy(), behind.part.copy(), behind.parts
    origin = camera.position.astype(np.float32)[:, None]
    places = camera.project(corners(parts).reshape(-1, 3)).reshape(-1, 8, 2) * samples
    for number, (part, place) in enumerate(zip(parts, places, strict=True), first):
        box = _window(place, (h, w))
        if box is None:
            continue
        rays = behind.ray[:, box[0], box[1]]
        t = part.hit(origin, rays.reshape(3, -1)).reshape(rays.shape[1:])
        closer = (t < distance[box]) & (t > 0)
        distance[box][closer] = t[closer]
        index[box][closer] = number
    return Buffer(distance, index, behind.ray, first + len(parts))


def shadow(parts: Sequence[Part], light: np.ndarray, grid: np.ndarray) -> np.ndarray:
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


def visible(buffer: Buffer, camera: Camera, points: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """Which world points ``(n 3)`` are in the image with nothing more than ``tolerance (n)`` in front, ``(n)``."""
    h, w = buffer.distance.shape
    samples = h // camera.size[0]
    xy = np.floor(camera.project(points) * samples).astype(int)
    inside = ((xy >= 0) & (xy < [w, h])).all(1)
    first = buffer.distance[xy[:, 1].clip(0, h - 1), xy[:, 0].clip(0, w - 1)]
    return inside & (first > np.linalg.norm(points - camera.position, axis=1) - tolerance)


def surface_points(parts: Sequence[Part], inside: np.ndarray, outward: np.ndarray) -> np.ndarray:
    """Where lines from far ``outward (n 3)`` to points inside ``(n 3)`` first meet the parts, ``(n 3)``.

    Raises ValueError where one meets none.
    """
    direction = -outward / np.linalg.norm(outward, axis=1, keepdims=True)
    origin = inside - 3 * direction
    rays = origin.astype(np.float32).T, direction.astype(np.float32).T
    nearest = np.min([part.hit(*rays) for part in parts], axis=0)
    if not np.isfinite(nearest).all():
        raise ValueError(f"no part lies on the line through {inside[~np.isfinite(nearest)]}; move the inner point")
    return origin + nearest[:, None] * direction


def _ground_distance(camera: Camera, direction: np.ndarray) -> np.ndarray:
    """Distance to the plane z = 0, infinite above the horizon."""
    down = np.maximum(-direction[2], np.float32(1e-9))
    return np.where(direction[2] < 0, np.float32(camera.position[2]) / down, MISS)


def _window(xy: np.ndarray, size: tuple[int, int]) -> tuple[slice, slice] | None:
    low = np.floor(xy.min(0)).astype(int).clip(0)
    high = (np.ceil(xy.max(0)).astype(int) + 1).clip(None, [size[1], size[0]])
    if (low >= high).any():
        return None
    return slice(low[1], high[1]), slice(low[0], high[0])
