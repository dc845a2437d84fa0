"""Necks and heads of the quadrupeds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from geoalign.synthetic.body import SIDES, Builder
from geoalign.synthetic.parts import ellipsoid, limb
from geoalign.synthetic.species import Species


def add_head(builder: Builder, s: Species, axis: Float[np.ndarray, "3 3"], rng: np.random.Generator) -> None:
    """Neck, head, ears, eyes and horns on a trunk whose centres are ``axis (3 3)``."""
    rise, turn = np.radians(s.neck_rise + rng.normal(0, 9)), rng.normal(0, 0.22)
    base = axis[0] + [0.1, 0, 0.35 * s.chest]
    along = np.array([np.cos(rise) * np.cos(turn), np.cos(rise) * np.sin(turn), np.sin(rise)])
    poll = base + s.neck[0] * along
    builder.add(limb(base, poll, (s.neck[1], s.neck[2]), "coat", 0.72 if s.mane else 0.85))
    if s.mane:
        crest = np.cross(along, np.cross([0.0, 0.0, 1.0], along))
        start, stop = base + crest * 0.75 * s.neck[1], poll + crest * s.neck[2]
        builder.add(limb(start, stop, (1.1 * s.mane, s.mane), "tail", 0.4))
    yaw = turn + rng.normal(0, 0.3)
    drop = np.radians(-s.head_drop + rng.normal(0, 9))
    front = np.array([np.cos(drop) * np.cos(yaw), np.cos(drop) * np.sin(yaw), np.sin(drop)])
    left = np.array([-np.sin(yaw), np.cos(yaw), 0.0])
    frame = np.stack([front, left, np.cross(front, left)])
    (_round_head if s.foot == "paw" else _long_head)(builder, s, poll, frame)


def _round_head(builder: Builder, s: Species, poll: np.ndarray, frame: np.ndarray) -> None:
    skull = s.head[1]
    centre = poll + skull * (np.array([0.25, 0, 0.35]) @ frame)
    at = _placed(centre, skull * frame)
    builder.add(ellipsoid(centre, (0.95 * skull, 1.0 * skull, 0.88 * skull), "coat", frame))
    builder.add(ellipsoid(at(0.35, 0, -0.3), (0.6 * skull, 0.8 * skull, 0.5 * skull), "coat", frame))
    for _, y in SIDES:
        builder.add(ellipsoid(at(0.85, 0.17 * y, -0.38), (0.3 * skull, 0.27 * skull, 0.22 * skull), "muzzle", frame))
    builder.add(ellipsoid(at(0.8, 0, -0.58), (0.22 * skull, 0.2 * skull, 0.16 * skull), "muzzle", frame))
    builder.add(ellipsoid(at(1.08, 0, -0.2), (0.1 * skull, 0.13 * skull, 0.09 * skull), "nose", frame, True))
    _ears(builder, s, at(-0.1, 0, 0.45), frame, 0.52 * skull, 0.3)
    _eyes(builder, s, [(at(0.78, 0.42 * y, 0.1)) for _, y in SIDES], frame, 0.55)
    builder.skin("nose", at(0.9, 0, -0.2), frame[0], 0.2)
    builder.skin("chin", at(0.7, 0, -0.58), 0.8 * frame[0] - 0.6 * frame[2], 0.2)


def _long_head(builder: Builder, s: Species, poll: np.ndarray, frame: np.ndarray) -> None:
    length, skull, muzzle = s.head
    at = _placed(poll, frame)
    broad = 1.0 if s.horn else 0.85
    builder.add(limb(at(0, 0, 0), at(length, 0, -0.1 * skull), (skull, muzzle), "coat", broad, frame[1]))
    builder.add(
        ellipsoid(
            at(0.25 * length, 0, -0.35 * skull), (0.3 * length, 0.75 * skull * broad, 0.75 * skull), "coat", frame
        )
    )
    tip = at(length + 0.1 * muzzle, 0, -0.15 * skull)
    builder.add(ellipsoid(tip, (muzzle, 1.08 * muzzle * broad, 0.95 * muzzle), "muzzle", frame))
    for _, y in SIDES:
        nostril = tip + np.array([0.75 * muzzle, 0.5 * y * muzzle * broad, 0.35 * muzzle]) @ frame
        builder.add(ellipsoid(nostril, (0.24 * muzzle, 0.2 * muzzle, 0.24 * muzzle), "nostril", frame, True))
    _ears(builder, s, at(-0.1 * skull, 0, 0.5 * skull if s.horn else 0.75 * skull), frame, 0.55 * skull, 0.0)
    _eyes(builder, s, [at(0.24 * length, 0.8 * y * skull * broad, 0.38 * skull) for _, y in SIDES], frame, 0.1)
    if s.horn:
        _horns(builder, s, at(0.05 * skull, 0, 0.85 * skull), frame)
    builder.skin("nose", tip, frame[0] + 0.45 * frame[2], 0.25)
    builder.skin("chin", tip, 0.3 * frame[0] - frame[2], 0.25)


def _placed(origin: np.ndarray, frame: np.ndarray) -> Callable[[float, float, float], np.ndarray]:
    """A function from coordinates (ahead, left, up) of the head to the world."""
    return lambda ahead, left, up: origin + np.array([ahead, left, up]) @ frame


def _ears(builder: Builder, s: Species, base: np.ndarray, frame: np.ndarray, apart: float, lean: float) -> None:
    length, width, angle = s.ear
    sideways, up = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    for side, y in SIDES:
        root = base + apart * y * frame[1]
        tip = root + length * (y * sideways * frame[1] + up * frame[2] + 0.1 * frame[0])
        builder.add(limb(root, tip, (width, 0.14 * width), "coat", 0.4, tuple(frame[0])))
        inner = 0.16 * width * frame[0] + 0.1 * (tip - root)
        builder.add(
            limb(
                root + inner,
                tip + inner - 0.25 * (tip - root),
                (0.7 * width, 0.15 * width),
                "ear",
                0.4,
                tuple(frame[0]),
            )
        )
        builder.joint(f"{side}_ear", tip, 0.4 * width)


def _eyes(builder: Builder, s: Species, places: list[np.ndarray], frame: np.ndarray, ahead: float) -> None:
    ways = np.stack([ahead * frame[0] + (1 - ahead) * y * frame[1] + 0.1 * frame[2] for _, y in SIDES])
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    spots = builder.surface(np.stack(places) - 0.05 * ways, ways, 0.2)
    for (side, _), spot, outward in zip(SIDES, spots, ways, strict=True):
        builder.add(ellipsoid(spot - 0.35 * s.eye * outward, (s.eye, s.eye, s.eye), "eye", frame, True))
        pupil = spot + 0.3 * s.eye * outward
        slit = (0.5, 0.32, 0.75) if s.foot == "paw" else (0.6, 0.6, 0.6)
        builder.add(ellipsoid(pupil, tuple(0.72 * s.eye * k for k in slit), "pupil", frame, True))  # type: ignore[arg-type]
        builder.skin(f"{side}_eye", spot, outward, 0.2)


def _horns(builder: Builder, s: Species, base: np.ndarray, frame: np.ndarray) -> None:
    for side, y in SIDES:
        root = base + 0.07 * y * frame[1]
        middle = root + s.horn * (0.6 * y * frame[1] + 0.15 * frame[2])
        tip = middle + s.horn * (0.2 * y * frame[1] + 0.5 * frame[2] + 0.1 * frame[0])
        builder.add(limb(root, middle, (0.042, 0.032), "horn", rigid=True))
        builder.add(limb(middle, tip, (0.032, 0.01), "horn", rigid=True))
        builder.joint(f"{side}_horn", tip, 0.03)
