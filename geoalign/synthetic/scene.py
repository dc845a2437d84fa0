"""One random picture: a body, its colours, a camera, light, ground, backdrop and clutter."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from geoalign.synthetic.body import Model
from geoalign.synthetic.paint import Paint, Palette, Rgb, Waves, bodywork, coat, mix, plain, shade
from geoalign.synthetic.parts import Part, corners, ellipsoid, limb
from geoalign.synthetic.quadruped import quadruped
from geoalign.synthetic.render import Camera, look_at
from geoalign.synthetic.species import CATEGORIES
from geoalign.synthetic.vehicle import car

SIZES = ((240, 320), (240, 300), (320, 280), (256, 256), (320, 240))
"""Image sizes ``(h, w)`` that are drawn from."""


class Backdrop(NamedTuple):
    """Ground, what is behind it and the light."""

    ground: Paint
    far: Paint
    sky: tuple[Rgb, Rgb]  # at the horizon and above
    hills: Rgb
    ridge: Waves  # height of the hills along the horizon
    sun: Float[np.ndarray, "3"]  # (3) unit vector towards the light
    sunlight: Rgb
    ambient: Rgb
    overcast: float  # 0 hard shadows .. 1 none


class Scene(NamedTuple):
    """All that a picture shows."""

    model: Model
    palette: Palette
    clutter: list[Part]
    camera: Camera
    backdrop: Backdrop
    azimuth: float  # radians; 0 = seen from the front, pi / 2 = its left side is seen
    seed: int  # of the grain

    @property
    def azimuth_id(self) -> int:
        """0..7 in steps of 45 degrees, as in SPair-71k: 0 front, 2 facing the image's left, 6 its right."""
        return round(self.azimuth / (np.pi / 4)) % 8


def content_rng(seed: int, *names: str | int) -> np.random.Generator:
    """A generator that depends on what it is for, not on when it is asked."""
    text = "/".join(str(part) for part in (seed, *names))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little"))


def random_scene(category: str, rng: np.random.Generator) -> Scene:
    """A picture of a category; raises ValueError for an unknown one."""
    if category not in CATEGORIES:
        raise ValueError(f"synthetic categories are {', '.join(CATEGORIES)}, got {category!r}")
    model = car(rng) if category == "car" else quadruped(category, rng)
    colours = bodywork(rng) if category == "car" else coat(category, rng)
    azimuth = float(rng.uniform(0, 2 * np.pi))
    camera = _camera(model, azimuth, rng)
    backdrop, clutter, plants = _backdrop(rng), _clutter(model, camera, rng), _plants(rng)
    return Scene(model, {**colours, **plants}, clutter, camera, backdrop, azimuth, int(rng.integers(2**31)))


def _camera(model: Model, azimuth: float, rng: np.random.Generator) -> Camera:
    """Frames the body: mostly whole, about one in six cut by the image's edge."""
    solid = corners(model.parts).reshape(-1, 3)
    target = (solid.min(0) + solid.max(0)) / 2
    elevation = float(np.radians(rng.uniform(3, 28)))
    span = float(np.linalg.norm(np.ptp(solid, axis=0)))
    position, axes = look_at(
        target, azimuth, elevation, float(rng.uniform(2.2, 4.5)) * span, float(rng.normal(0, 0.03))
    )
    h, w = SIZES[rng.integers(len(SIZES))]
    seen = Camera(position, axes, 1.0, (0.0, 0.0), (h, w)).project(solid)
    low, high = seen.min(0), seen.max(0)
    fill = float(rng.uniform(1.05, 1.25) if rng.random() < 0.15 else rng.uniform(0.62, 0.97))
    focal = fill * float(min(w / (high - low)[0], h / (high - low)[1]))
    free = np.abs(np.array([w, h]) - focal * (high - low))
    centre = np.array([w, h]) / 2 + rng.uniform(-0.45, 0.45, 2) * free - focal * (low + high) / 2
    return Camera(position, axes, focal, (float(centre[0]), float(centre[1])), (h, w))


_GROUNDS: tuple[tuple[Rgb, Rgb], ...] = (
    ((0.1, 0.2, 0.04), (0.2, 0.24, 0.07)),
    ((0.28, 0.25, 0.09), (0.4, 0.33, 0.15)),
    ((0.36, 0.27, 0.16), (0.25, 0.18, 0.1)),
    ((0.17, 0.17, 0.17), (0.23, 0.22, 0.21)),
    ((0.5, 0.5, 0.52), (0.62, 0.63, 0.66)),
)
_SKIES: tuple[tuple[Rgb, Rgb], ...] = (
    ((0.62, 0.74, 0.85), (0.14, 0.33, 0.68)),
    ((0.7, 0.72, 0.74), (0.5, 0.55, 0.6)),
    ((0.8, 0.58, 0.38), (0.25, 0.32, 0.52)),
    ((0.45, 0.4, 0.33), (0.5, 0.45, 0.38)),
)


def _backdrop(rng: np.random.Generator) -> Backdrop:
    first, second = _GROUNDS[rng.integers(len(_GROUNDS))]
    sky = _SKIES[rng.integers(len(_SKIES))]
    around, high = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.3)
    sun = np.array([np.cos(around) * np.cos(high), np.sin(around) * np.cos(high), np.sin(high)])
    overcast = float(rng.choice([0.0, 0.3, 0.8]))
    strength = float(rng.uniform(0.8, 1.1)) * (1 - 0.55 * overcast)
    warm = mix((1.0, 0.98, 0.94), (1.0, 0.85, 0.65), float(rng.uniform(0, 0.6)))
    ambient = shade(mix((0.8, 0.8, 0.8), sky[1], 0.35), 0.5 + 0.45 * overcast)
    return Backdrop(
        Paint(first, second, "patches", 0.0, Waves.random(rng, float(rng.uniform(0.25, 1.2)), 4), grain=0.3),
        plain(mix(first, second, 0.5)),
        sky,
        mix(shade(first, float(rng.uniform(0.4, 1.0))), sky[0], float(rng.uniform(0.2, 0.6))),
        Waves.random(rng, float(rng.uniform(0.12, 0.5)), 5),
        sun,
        shade(warm, strength),
        ambient,
        overcast,
    )


def _plants(rng: np.random.Generator) -> Palette:
    leaf = mix((0.06, 0.16, 0.03), (0.25, 0.2, 0.05), float(rng.random()))
    bush = Paint(leaf, shade(leaf, 0.35), "spots", 0.1, Waves.random(rng, 0.06), grain=0.5)
    return {"bush": bush, "trunk": plain((0.13, 0.09, 0.06), 0.3), "rock": plain((0.25, 0.24, 0.23), 0.3)}


def _clutter(model: Model, camera: Camera, rng: np.random.Generator) -> list[Part]:
    """Bushes, trees, rocks and posts behind and beside the body, now and then one in front of it."""
    radius = max(float(np.abs(model.points[:, :2]).max()), 0.8) + 0.25
    towards = np.arctan2(camera.position[1], camera.position[0])
    parts: list[Part] = []
    for _ in range(int(rng.integers(0, 5))):
        angle = towards + np.pi + rng.uniform(-1.6, 1.6)
        away = radius + float(rng.uniform(0.5, 4.0))
        parts += _thing(away * np.array([np.cos(angle), np.sin(angle), 0.0]), float(rng.uniform(0.6, 1.6)), rng)
    if rng.random() < 0.18:
        angle = towards + rng.choice([-1, 1]) * rng.uniform(0.12, 0.5)
        parts += _thing((radius + 0.2) * np.array([np.cos(angle), np.sin(angle), 0.0]), 0.45, rng)
    return parts


def _thing(at: np.ndarray, size: float, rng: np.random.Generator) -> list[Part]:
    kind = rng.choice(["bush", "tree", "rock", "post"])
    if kind == "rock":
        r = size * rng.uniform(0.15, 0.4, 3)
        return [ellipsoid(at, (float(r[0]), float(r[1]), float(r[2])), "rock")]
    if kind == "post":
        return [limb(at, at + [0, 0, 0.9 * size], (0.05 * size, 0.05 * size), "trunk")]
    lift = 1.5 * size if kind == "tree" else 0.2 * size
    blobs = at + [0, 0, lift] + size * rng.normal(0, 0.22, (5, 3))
    parts = [ellipsoid(b, tuple(size * rng.uniform(0.2, 0.4, 3)), "bush") for b in blobs]
    return [*parts, limb(at, at + [0, 0, lift], (0.12 * size, 0.08 * size), "trunk")] if kind == "tree" else parts
