"""Cars of cut boxes and cylinders; they face +x, the ground is z = 0, the unit is 2 metres."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from geoalign.synthetic.body import SIDES, Builder, Model
from geoalign.synthetic.parts import Part, block, disc, ellipsoid, limb


class Car(NamedTuple):
    """Measures of one car in units; x positions are along the car, its middle is 0."""

    length: float
    width: float
    waist: float  # height where the windows begin
    roof: float
    wheel: float  # radius
    axles: tuple[float, float]
    screen: tuple[float, float]  # x of the windscreen's foot and head
    rear: tuple[float, float]  # x of the rear window's foot and head
    nose: float  # how far the bonnet drops towards the front
    boot: float  # how far the boot lid drops towards the rear


_SHAPES = {
    "saloon": Car(2.25, 0.9, 0.45, 0.72, 0.165, (0.7, -0.68), (0.45, 0.1), (-0.8, -0.42), 0.09, 0.03),
    "hatchback": Car(1.95, 0.88, 0.47, 0.75, 0.16, (0.62, -0.6), (0.45, 0.12), (-0.95, -0.72), 0.1, 0.0),
    "van": Car(2.3, 0.96, 0.52, 0.98, 0.175, (0.74, -0.7), (0.75, 0.4), (-1.13, -1.02), 0.1, 0.0),
}


def car(rng: np.random.Generator) -> Model:
    """A random car."""
    shape = _SHAPES[str(rng.choice(list(_SHAPES)))]
    stretch, high = np.exp(rng.normal(0, 0.05)), np.exp(rng.normal(0, 0.04))
    tall: dict[str, Any] = {name: getattr(shape, name) * high for name in ("waist", "roof", "wheel", "nose")}
    long = {name: tuple(float(x * stretch) for x in getattr(shape, name)) for name in ("axles", "screen", "rear")}
    shape = shape._replace(
        length=shape.length * stretch, width=shape.width * np.exp(rng.normal(0, 0.03)), **tall | long
    )
    builder = Builder()
    _body(builder, shape)
    _wheels(builder, shape)
    _fittings(builder, shape)
    return builder.model("car")


def _body(builder: Builder, c: Car) -> None:
    sill, half = 0.75 * c.wheel, (c.length / 2, c.width / 2)
    middle, rise = (sill + c.waist) / 2, (c.waist - sill) / 2
    # Bonnet and boot slope, the nose and tail lean, the flanks close towards the top.
    planes = [
        _plane((half[0], rise - c.nose), (c.screen[0], rise)),
        _plane((-c.length / 2, rise - c.boot), (c.rear[0], rise)),
    ]
    planes += [_through((0.96, 0, -0.28), (half[0], 0, 0.0)), _through((-0.97, 0, -0.22), (-half[0], 0, 0.0))]
    planes += [_through((0.97, 0, 0.25), (half[0], 0, 0.0)), _through((-0.98, 0, 0.2), (-half[0], 0, 0.05))]
    for _, y in SIDES:
        planes += [_through((0, y, 0.22), (0, y * half[1], 0)), _through((0, y * 0.98, -0.2), (0, y * half[1], -0.05))]
        planes += [_through((0.75, 0.66 * y, 0), (half[0] - 0.07, y * half[1], 0))]
        planes += [_through((-0.75, 0.66 * y, 0), (-half[0] + 0.05, y * half[1], 0))]
    builder.add(block(np.array([0, 0, middle]), (*half, rise), "body", tuple(planes)))
    builder.add(_cabin(c))
    builder.add(block(np.array([0, 0, sill + 0.02]), (half[0] - 0.04, half[1] - 0.03, 0.06), "trim"))
    _corners(builder, c)


def _cabin(c: Car) -> Part:
    low, high = c.waist - 0.02, c.roof
    reach, rise, side = (c.screen[0] - c.rear[0]) / 2, (high - low) / 2, c.width / 2 - 0.035
    middle = (c.screen[0] + c.rear[0]) / 2
    front = _plane((c.screen[0] - middle, -rise), (c.screen[1] - middle, rise))
    back = _plane((c.rear[0] - middle, -rise), (c.rear[1] - middle, rise))
    planes = [front, back]
    planes += [_through((0, y, 0.3), (0, y * side, -rise)) for _, y in SIDES]
    planes += [_through((0, 0.5 * y, 0.85), (0, y * (side - 0.09), rise - 0.02)) for _, y in SIDES]
    return block(np.array([middle, 0, (low + high) / 2]), (reach, side, rise), "cabin", tuple(planes))


def _corners(builder: Builder, c: Car) -> None:
    """Keypoints at the corners of the windscreen and of the rear window."""
    for side, y in SIDES:
        low, high = y * (c.width / 2 - 0.1), y * (c.width / 2 - 0.2)
        for name, (foot, head), ahead in (("windscreen", c.screen, 1.0), ("rear_window", c.rear, -1.0)):
            run = head - foot
            for end, share, across in (("bottom", 0.12, low), ("top", 0.88, high)):
                inside = np.array([foot + share * run - 0.08 * ahead, across, c.waist + share * (c.roof - c.waist)])
                builder.skin(f"{side}_{name}_{end}", inside, (ahead, 0, 0.4))


def _wheels(builder: Builder, c: Car) -> None:
    for end, x in zip(("front", "rear"), c.axles, strict=True):
        for side, y in SIDES:
            hub = np.array([x, y * (c.width / 2 - 0.085), c.wheel])
            builder.add(disc(hub + [0, 0, 0.01], 1.18 * c.wheel, 0.088, "trim"))
            builder.add(disc(hub, c.wheel, 0.095, "tyre"), disc(hub, 0.62 * c.wheel, 0.102, "rim"))
            builder.add(disc(hub, 0.16 * c.wheel, 0.107, "trim"))
            builder.skin(f"{side}_{end}_wheel", hub, (0, y, 0))


def _fittings(builder: Builder, c: Car) -> None:
    front, rear = c.length / 2 - 0.03, -c.length / 2 + 0.03
    lamp = c.waist - c.nose - 0.09
    for side, y in SIDES:
        across = y * (c.width / 2 - 0.14)
        builder.add(ellipsoid(np.array([front - 0.01, across, lamp]), (0.05, 0.095, 0.05), "headlight", rigid=True))
        builder.add(block(np.array([rear + 0.02, across, c.waist - 0.13]), (0.035, 0.085, 0.05), "taillight"))
        builder.skin(f"{side}_headlight", np.array([front - 0.02, across, lamp]), (1, 0, 0.15))
        builder.skin(f"{side}_taillight", np.array([rear + 0.02, across, c.waist - 0.13]), (-1, 0, 0.15))
        _flank(builder, c, side, y)
    for name, x, ahead in (("front_plate", front, 1.0), ("rear_plate", rear, -1.0)):
        at = np.array([x, 0, 0.5 * c.waist + 0.02 * ahead])
        builder.add(block(at, (0.045, 0.13, 0.032), "plate"))
        builder.skin(name, at, (ahead, 0, 0))
    builder.add(block(np.array([front, 0, lamp]), (0.025, c.width / 2 - 0.27, 0.032), "trim"))


def _flank(builder: Builder, c: Car, side: str, y: float) -> None:
    mirror = np.array([c.screen[0] - 0.12, y * (c.width / 2 + 0.05), c.waist + 0.06])
    builder.add(ellipsoid(mirror, (0.035, 0.06, 0.042), "hood", rigid=True))
    builder.add(limb(mirror, mirror - [0, 0.08 * y, 0.03], (0.015, 0.015), "trim", rigid=True))
    builder.joint(f"{side}_mirror", mirror, 0.06)
    handle = np.array([-0.08, y * (c.width / 2 - 0.02), c.waist - 0.08])
    builder.add(limb(handle - [0.05, 0, 0], handle + [0.05, 0, 0], (0.017, 0.017), "trim", rigid=True))
    builder.skin(f"{side}_door_handle", handle, (0, y, 0.1))


def _through(
    normal: tuple[float, float, float], point: tuple[float, float, float]
) -> tuple[float, float, float, float]:
    x, y, z = (float(n) for n in np.array(normal) / np.linalg.norm(normal))
    return x, y, z, x * point[0] + y * point[1] + z * point[2]


def _plane(low: tuple[float, float], high: tuple[float, float]) -> tuple[float, float, float, float]:
    """The upper side of the line through two ``(x, z)`` points, all along y."""
    run, rise = high[0] - low[0], high[1] - low[1]
    normal = (-rise, 0.0, run) if run > 0 else (rise, 0.0, -run)
    return _through(normal, (low[0], 0.0, low[1]))
