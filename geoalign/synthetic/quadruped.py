"""Cats, horses and cows: an articulated body of round cones and ellipsoids.

The body faces +x, its left is +y, the ground is z = 0; the unit is the distance from shoulder to hip.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from geoalign.synthetic.body import SIDES, Builder, Model
from geoalign.synthetic.head import add_head
from geoalign.synthetic.parts import ellipsoid, limb
from geoalign.synthetic.species import SPECIES, Species


def vary(species: Species, rng: np.random.Generator, spread: float = 0.08) -> Species:
    """One individual: every length scaled by its own factor of relative deviation ``spread``."""

    def scale(name: str, value: object) -> object:
        # Legs keep the length that the height of the back asks for.
        factor = float(np.exp(rng.normal(0, 0.3 * spread if name.endswith("bones") else spread)))
        if isinstance(value, tuple):
            return tuple(float(v) * factor for v in value)
        return value * factor if isinstance(value, float) else value

    fixed = {"tail_lift": species.tail_lift, "withers": species.withers}
    varied = {name: scale(name, value) for name, value in species._asdict().items()}
    return Species(**(varied | fixed))  # type: ignore[arg-type]


def quadruped(category: str, rng: np.random.Generator) -> Model:
    """A random individual of a species in a random gait."""
    species = vary(SPECIES[category], rng)
    builder = Builder()
    axis = _trunk(builder, species)
    _legs(builder, species, axis, rng)
    _tail(builder, species, axis, rng)
    add_head(builder, species, axis, rng)
    return builder.model(category)


def _trunk(builder: Builder, s: Species) -> np.ndarray:
    """Chest, belly and rump; gives their centres ``(3 3)``."""
    radii = (s.chest, s.belly, s.rump)
    sag = (0.0, 0.04 * s.withers, 0.01)
    centres = [np.array([x, 0, s.withers - r - d]) for x, r, d in zip((0.4, 0.0, -0.42), radii, sag, strict=True)]
    builder.add(limb(centres[0], centres[1], (s.chest, s.belly), "coat", s.width))
    builder.add(limb(centres[1], centres[2], (s.belly, s.rump), "coat", s.width))
    builder.add(ellipsoid(centres[0] + [0.06, 0, -0.02], (0.9 * s.chest, 0.8 * s.chest * s.width, s.chest), "coat"))
    if s.udder:
        under = centres[2] + [0.14, 0, -s.rump - 0.02]
        builder.add(ellipsoid(under, (s.udder, 0.85 * s.udder, 0.8 * s.udder), "udder"))
    builder.skin("neck", centres[0] + [-0.08, 0, 0], (0, 0, 1), 0.75)
    return np.stack(centres)


def _legs(builder: Builder, s: Species, axis: np.ndarray, rng: np.random.Generator) -> None:
    stride, phase = rng.choice([0.04, 0.12, 0.2]) * s.withers, rng.uniform(0, 2 * np.pi)
    # Walk (each foot a quarter of a cycle after the next) or trot (diagonal feet together).
    lag = {"walk": (0, 0.5, 0.75, 0.25), "trot": (0, 0.5, 0.5, 0)}["walk" if rng.random() < 0.6 else "trot"]
    for number, (end, (side, y)) in enumerate((end, side) for end in ("front", "hind") for side in SIDES):
        turn = phase + 2 * np.pi * lag[number] + rng.normal(0, 0.15)
        step = stride * np.sin(turn) + rng.normal(0, 0.015)
        lift = 0.55 * stride * max(0.0, float(np.cos(turn)))
        (_front_leg if end == "front" else _hind_leg)(builder, s, axis, side, y, step, lift)


def _front_leg(builder: Builder, s: Species, axis: np.ndarray, side: str, y: float, step: float, lift: float) -> None:
    lateral = y * 0.62 * s.chest * s.width
    shoulder = axis[0] + [0.08, lateral, 0.1 * s.chest]
    paw = np.array([shoulder[0] - 0.04 + step, lateral * 0.95, lift + s.leg[2]])
    fold = 0.04 + 3.0 * lift / s.withers
    wrist = paw + s.front_bones[2] * np.array([np.sin(fold), 0, np.cos(fold)])
    elbow, wrist = bend(shoulder, wrist, s.front_bones[0], s.front_bones[1], -1.0)
    paw = wrist - s.front_bones[2] * np.array([np.sin(fold), 0, np.cos(fold)])
    builder.add(ellipsoid((shoulder + elbow) / 2, (0.62 * s.chest, 0.5 * s.chest * s.width, 0.8 * s.chest), "coat"))
    _lower_leg(builder, s, elbow, wrist, paw, 1.0)
    builder.joint(f"{side}_elbow", elbow, s.leg[0] + 0.3 * s.chest * s.width)
    builder.joint(f"{side}_front_paw", paw, 1.5 * s.leg[2])
    builder.skin(f"{side}_shoulder", shoulder + [0, 0, -0.02], (0.45, y, 0.1))


def _hind_leg(builder: Builder, s: Species, axis: np.ndarray, side: str, y: float, step: float, lift: float) -> None:
    lateral = y * 0.54 * s.rump * s.width
    hip = axis[2] + [-0.02, lateral, 0.15 * s.rump]
    tilt = np.radians(-s.hock_tilt) - 0.3 * step - 2.2 * lift / s.withers
    paw = np.array([hip[0] - 0.1 + step, lateral * 0.95, lift + s.leg[2]])
    cannon = s.hind_bones[2] * np.array([np.sin(tilt), 0, np.cos(tilt)])
    knee, hock = bend(hip, paw + cannon, s.hind_bones[0], s.hind_bones[1], 1.0)
    thigh = s.leg[0] * 1.9
    builder.add(limb(hip, knee, (thigh, 1.25 * s.leg[0]), "coat", 0.75))
    _lower_leg(builder, s, knee, hock, hock - cannon, 1.15)
    builder.joint(f"{side}_knee", knee, 1.4 * s.leg[0])
    builder.joint(f"{side}_back_paw", hock - cannon, 1.5 * s.leg[2])
    builder.skin(f"{side}_hip", hip + [0, 0, 0.25 * s.rump], (-0.35, y, 0.45))


def _lower_leg(builder: Builder, s: Species, top: np.ndarray, middle: np.ndarray, paw: np.ndarray, big: float) -> None:
    knee, hock, fetlock = (big * r for r in s.leg)
    builder.add(limb(top, middle, (1.1 * knee, hock), "shank"), limb(middle, paw, (hock, fetlock), "cannon"))
    if s.foot == "paw":
        toe = paw + [0.5 * s.leg[2], 0, -0.25 * s.leg[2]]
        builder.add(ellipsoid(toe, (1.75 * s.leg[2], 1.25 * s.leg[2], 0.85 * s.leg[2]), "foot"))
    else:
        sole = paw + [0.35 * s.leg[2], 0, -0.75 * s.leg[2]]
        builder.add(limb(paw + [0, 0, 0.2 * s.leg[2]], sole, (1.02 * s.leg[2], 1.35 * s.leg[2]), "hoof", rigid=True))


def bend(
    start: Float[np.ndarray, "3"], end: Float[np.ndarray, "3"], first: float, second: float, forward: float
) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Middle joint of two bones from ``start`` towards ``end``, bent to +x or -x; and the reached end."""
    reach = end - start
    length = float(np.clip(np.linalg.norm(reach), abs(first - second) + 1e-3, 0.995 * (first + second)))
    along = reach / np.linalg.norm(reach)
    side = np.array([forward, 0.0, 0.0]) - forward * along[0] * along
    side /= np.linalg.norm(side)
    run = (first**2 - second**2 + length**2) / (2 * length)
    rise = np.sqrt(max(first**2 - run**2, 0.0))
    return start + run * along + rise * side, start + length * along


def _tail(builder: Builder, s: Species, axis: np.ndarray, rng: np.random.Generator) -> None:
    root = builder.surface(axis[2:] + [0, 0, 0.45 * s.rump], np.array([[-1, 0, 0.35]]), 0.75)[0]
    builder.joint("root_of_tail", root, s.tail[1])
    angle, curl = np.radians(rng.uniform(*s.tail_lift)), rng.uniform(-0.35, 0.5)
    yaw, turn = rng.normal(0, 0.15), rng.normal(0, 0.12)
    links, at = 6, root + [0.03, 0, 0]
    share = np.linspace(0, 1, links + 1)
    radii = s.tail[1] + (s.tail[2] - s.tail[1]) * share + (1.6 * s.mane * share * (1 - share))
    for link in range(links):
        r0, r1 = float(radii[link]), float(radii[link + 1])
        heading = np.array([-np.cos(angle) * np.cos(yaw), np.sin(yaw), np.sin(angle)])
        end = at + s.tail[0] / links * heading / np.linalg.norm(heading)
        end[2] = max(end[2], 0.06)
        builder.add(limb(at, end, (r0, r1), "tail" if s.mane else "coat"))
        at, yaw = end, yaw + turn
        angle = angle + curl if s.foot == "paw" else max(angle - 0.35, np.radians(-88))
    if s.udder:
        builder.add(ellipsoid(at - [0, 0, 0.03], (0.045, 0.045, 0.1), "tail"))
    builder.joint("tip_of_tail", at, s.tail[2] + 0.02)
