"""Colours: procedural paints on solids, and the coats of animals and bodies of cars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from geoalign.synthetic.parts import Part
from geoalign.synthetic.solids import Polyhedron

Rgb = tuple[float, float, float]
Pattern = Literal["plain", "patches", "spots", "stripes", "fade", "glass", "panels"]
Palette = Mapping[str, "Paint"]


class Waves(NamedTuple):
    """Smooth noise: a sum of cosines in random directions, about zero with deviation about 0.5."""

    frequency: Float[np.ndarray, "m 3"]
    phase: Float[np.ndarray, "m"]

    @classmethod
    def random(cls, rng: np.random.Generator, scale: float, count: int = 6) -> Waves:
        """Features about ``scale`` units across."""
        direction = rng.normal(size=(count, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        frequency = direction * rng.uniform(0.6, 1.7, (count, 1)) * np.pi / scale
        return cls(frequency.astype(np.float32), rng.uniform(0, 2 * np.pi, count).astype(np.float32))

    def __call__(self, point: Float[np.ndarray, "d k"]) -> Float[np.ndarray, "k"]:
        """Noise at points ``(3 k)``, ``(k)``."""
        angle = self.frequency[:, : len(point)] @ point + self.phase[:, None]
        return np.cos(angle).sum(0) * np.float32(0.7 / np.sqrt(len(self.phase)))


class Paint(NamedTuple):
    """A colour, how a second one is laid over it, and how rough it is; linear-light values in 0..1."""

    rgb: Rgb
    second: Rgb = (0.0, 0.0, 0.0)
    pattern: Pattern = "plain"
    level: float = 0.0  # threshold of the noise; for "fade" where along the limb the second colour begins
    waves: Waves | None = None
    belly: Rgb | None = None  # colour of what faces down
    grain: float = 0.08
    gloss: float = 0.0

    def colour(
        self, part: Part, point: Float[np.ndarray, "3 k"], normal: Float[np.ndarray, "3 k"]
    ) -> Float[np.ndarray, "3 k"]:
        """Albedo ``(3 k)`` at surface points and normals ``(3 k)``."""
        share = np.zeros_like(point[0]) if self.pattern == "plain" else self._share(part, point)
        first, second = (np.array(c, np.float32)[:, None] for c in (self.rgb, self.second))
        colour = first + (second - first) * share
        if self.belly is not None:
            under = _step(-normal[2], 0.55, 0.35)
            colour = colour + (np.array(self.belly, np.float32)[:, None] - colour) * under
        return colour

    def _share(self, part: Part, point: np.ndarray) -> np.ndarray:
        """How much of the second colour lies at each point, 0..1."""
        local = part.local(point)
        if self.pattern == "fade":
            return _step(local[0] / np.float32(part.solid.bounds()[1][0]), self.level, 0.2)
        if self.pattern == "glass":
            return _panes(part, local, self.level)
        if self.pattern == "panels":
            seams = np.abs((local[0] / self.level + 0.5) % 1.0 - 0.5) * self.level
            return 1 - _step(seams, 0.012, 0.008)
        noise = self.waves(point) if self.waves is not None else np.zeros_like(point[0])
        if self.pattern == "stripes":
            return _step(np.sin(point[0] * 26 + 4.5 * noise) + 0.5 * noise, self.level, 0.5)
        return _step(noise, self.level, 0.06)


def plain(rgb: Rgb, grain: float = 0.08, gloss: float = 0.0) -> Paint:
    """One colour."""
    return Paint(rgb, grain=grain, gloss=gloss)


def shade(rgb: Rgb, factor: float) -> Rgb:
    """A lighter or darker version, kept within 0..1."""
    r, g, b = (float(np.clip(c * factor, 0, 1)) for c in rgb)
    return r, g, b


def mix(a: Rgb, b: Rgb, share: float) -> Rgb:
    """``share`` of ``b`` in ``a``."""
    r, g, c = (float(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return r, g, c


WHITE, BLACK, PINK = (0.83, 0.8, 0.75), (0.035, 0.033, 0.033), (0.62, 0.33, 0.3)
_EYES = {"cat": ((0.45, 0.6, 0.1), (0.7, 0.5, 0.06), (0.25, 0.5, 0.6)), "horse": ((0.07, 0.04, 0.02),)}

# Name: coat, second colour, pattern, threshold, feet, mane and tail (None: like the coat).
_COATS: dict[str, tuple[tuple[Rgb, Rgb, Pattern, float, Rgb | None, Rgb | None], ...]] = {
    "cat": (
        ((0.62, 0.27, 0.07), (0.33, 0.11, 0.02), "stripes", 0.2, None, None),
        ((0.3, 0.27, 0.23), (0.07, 0.06, 0.05), "stripes", 0.1, None, None),
        ((0.05, 0.047, 0.047), WHITE, "plain", 0.0, WHITE, None),
        ((0.26, 0.27, 0.3), WHITE, "plain", 0.0, None, None),
        (WHITE, (0.45, 0.2, 0.06), "patches", 0.25, None, None),
        ((0.72, 0.6, 0.45), WHITE, "plain", 0.0, (0.2, 0.13, 0.09), None),
    ),
    "horse": (
        ((0.25, 0.1, 0.04), BLACK, "plain", 0.0, BLACK, BLACK),
        ((0.38, 0.15, 0.05), WHITE, "plain", 0.0, WHITE, (0.33, 0.13, 0.05)),
        ((0.045, 0.04, 0.04), BLACK, "plain", 0.0, None, BLACK),
        ((0.55, 0.54, 0.53), (0.35, 0.35, 0.36), "spots", 0.3, (0.2, 0.2, 0.2), (0.3, 0.3, 0.31)),
        ((0.65, 0.41, 0.16), WHITE, "plain", 0.0, WHITE, WHITE),
        ((0.3, 0.13, 0.06), WHITE, "patches", 0.2, WHITE, BLACK),
    ),
    "cow": (
        (WHITE, BLACK, "patches", 0.05, None, WHITE),
        ((0.3, 0.12, 0.05), WHITE, "plain", 0.0, None, None),
        ((0.36, 0.12, 0.05), WHITE, "patches", 0.3, WHITE, WHITE),
        ((0.55, 0.36, 0.19), WHITE, "plain", 0.0, (0.25, 0.16, 0.1), (0.2, 0.13, 0.08)),
        ((0.05, 0.045, 0.045), WHITE, "plain", 0.0, None, None),
        (WHITE, (0.3, 0.12, 0.05), "patches", 0.0, None, WHITE),
    ),
}


def coat(category: str, rng: np.random.Generator) -> Palette:
    """Random colours of an animal; left and right legs get the same."""
    base, second, pattern, level, feet, hair = _COATS[category][rng.integers(len(_COATS[category]))]
    base = shade(base, float(np.exp(rng.normal(0, 0.15))))
    waves = Waves.random(rng, {"spots": 0.12, "stripes": 0.5}.get(pattern, 0.55))
    sock = feet if feet is not None and rng.random() < 0.8 else base
    pale = mix(base, WHITE, 0.35 if category == "cat" else 0.12)
    muzzle = {"cat": mix(base, WHITE, rng.choice([0.25, 0.8])), "cow": mix(base, PINK, 0.6)}.get(
        category, shade(base, 0.5)
    )
    body = Paint(base, second, pattern, level, waves, None if pattern == "patches" else pale)
    iris = _EYES.get(category, _EYES["horse"])
    return {
        "coat": body,
        "shank": Paint(base, sock, "fade", float(rng.uniform(0.4, 0.75)), waves),
        **{"cannon": plain(sock), "foot": plain(sock), "muzzle": plain(muzzle), "udder": plain(PINK, 0.04)},
        **{"tail": plain(hair or base, 0.25), "ear": plain(mix(base, PINK, 0.6)), "nose": plain(shade(PINK, 0.8))},
        **{"hoof": plain((0.06, 0.05, 0.04)), "horn": plain((0.55, 0.48, 0.36)), "nostril": plain((0.03, 0.02, 0.02))},
        **{"eye": plain(iris[rng.integers(len(iris))], 0, 0.6), "pupil": plain((0.01, 0.01, 0.01), 0, 0.8)},
    }


def bodywork(rng: np.random.Generator) -> Palette:
    """Random colours of a car."""
    colours: tuple[Rgb, ...] = (
        (0.5, 0.03, 0.03),
        (0.03, 0.1, 0.35),
        (0.6, 0.6, 0.6),
        (0.78, 0.78, 0.76),
        (0.04, 0.04, 0.045),
    )
    colours += ((0.05, 0.22, 0.1), (0.65, 0.4, 0.03), (0.22, 0.24, 0.27))
    base = shade(colours[rng.integers(len(colours))], float(np.exp(rng.normal(0, 0.15))))
    glass = (0.05, 0.07, 0.085)
    return {
        "body": Paint(base, shade(base, 0.25), "panels", float(rng.uniform(0.85, 1.05)), grain=0.0, gloss=0.5),
        "hood": plain(base, 0.0, 0.5),
        "cabin": Paint(base, glass, "glass", 0.06, grain=0.0, gloss=0.7),
        "trim": plain((0.025, 0.025, 0.025), 0.0, 0.2),
        "tyre": plain((0.018, 0.018, 0.018), 0.05),
        "rim": plain((0.45, 0.45, 0.47), 0.0, 0.6),
        "headlight": plain((0.85, 0.85, 0.75), 0.0, 0.9),
        "taillight": plain((0.55, 0.01, 0.01), 0.0, 0.6),
        "plate": plain((0.75, 0.74, 0.65), 0.0),
    }


def _panes(part: Part, local: np.ndarray, frame: float) -> np.ndarray:
    """Glass wherever no edge of the polyhedron is within ``frame``, but on the lid and the floor."""
    if not isinstance(part.solid, Polyhedron):
        raise TypeError(f"glass is painted on polyhedra, got {type(part.solid).__name__}; choose another pattern")
    depth, normal = part.solid.depths(local), part.solid.normal(local)
    np.put_along_axis(depth, depth.argmax(0)[None], -np.inf, 0)
    edge = depth.max(0)  # how near the next face is
    beside = np.where(np.abs(normal[1]) > 0.6, np.abs(local[0]) - np.float32(0.7 * frame), np.float32(1))
    return np.where(np.abs(normal[2]) < 0.8, _step(np.minimum(-edge - frame, beside), 0, 0.015), np.float32(0))


def _step(value: np.ndarray, edge: float, width: float) -> np.ndarray:
    """0 below ``edge``, 1 above, smooth over ``width``."""
    ramp = ((value - np.float32(edge)) / np.float32(width) + np.float32(0.5)).clip(0, 1)
    return ramp * ramp * (3 - 2 * ramp)
