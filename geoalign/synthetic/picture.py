"""Shading: from a scene to pixels, a mask and annotated keypoints."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFilter

from geoalign.synthetic.parts import Part, corners
from geoalign.synthetic.render import Camera, Hits, cast, in_sight, shadow, trace
from geoalign.synthetic.scene import Scene
from geoalign.synthetic.solids import Cylinder, Polyhedron

SAMPLES = 2
"""Rays along each side of a pixel."""


class Picture(NamedTuple):
    """A rendered image and its truth, in pixels of the image."""

    image: UInt8[np.ndarray, "h w 3"]
    mask: Bool[np.ndarray, "h w"]
    xy_px: Float[np.ndarray, "n 2"]  # also of points that are not visible
    visible: Bool[np.ndarray, "n"]
    box_px: tuple[int, int, int, int]  # x1 y1 x2 y2 around the mask
    azimuth_id: int
    truncated: bool
    occluded: bool


def render(scene: Scene, samples: int = SAMPLES) -> Picture:
    """Draw a scene and read its truth off the depth buffer; ``samples`` rays along each side of an edge pixel."""
    model, camera, own = scene.model, scene.camera, len(scene.model.parts)
    parts = [*model.parts, *scene.clutter]
    alone = cast(model.parts, camera)
    hits = cast(scene.clutter, camera, own, alone)
    edge = _edges(parts, camera, hits)
    xy, places = camera.project(model.points), _subpixels(edge, samples)
    fine = trace(parts, camera, np.concatenate([places, xy]))
    spots = _spots(camera, hits, edge, fine, samples)
    mask = np.bincount(spots.pixel, spots.weight * (spots.owner < own), hits.part.size) >= 0.5
    mask = mask.reshape(camera.size)
    image = _draw(scene, parts, spots)
    seen = in_sight(camera, model.points, model.tolerance, fine.distance[len(places) :])
    box = _box(mask)
    cut = box[0] == 0 or box[1] == 0 or box[2] == camera.size[1] or box[3] == camera.size[0]
    hidden = 1 - ((hits.part >= 0) & (hits.part < own)).sum() / max(1, (alone.part >= 0).sum()) > 0.05
    return Picture(image, mask, xy, seen, box, scene.azimuth_id, cut, bool(hidden))


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


class _Spots(NamedTuple):
    """Where light is computed: places in the picture that differ in what is seen, sorted by part."""

    pixel: np.ndarray  # (k) index into the flat image
    weight: np.ndarray  # (k) share of the pixel
    owner: np.ndarray  # (k) part
    ray: np.ndarray  # (3 k)
    point: np.ndarray  # (3 k)


def _draw(scene: Scene, parts: list[Part], spots: _Spots) -> np.ndarray:
    (h, w), rigid = scene.camera.size, np.array([part.rigid for part in parts])
    normal = np.empty_like(spots.point)
    for number, place in _runs(spots.owner):
        normal[:, place] = parts[number].normal(spots.point[:, place])
    normal = _soften(normal, spots, (h, w), rigid[spots.owner])
    light = _surface(scene, parts, spots, normal) * spots.weight
    linear = np.stack([np.bincount(spots.pixel, band, h * w) for band in light], -1).astype(np.float32)
    cover = np.bincount(spots.pixel, spots.weight, h * w)
    bare = np.flatnonzero(cover < 1 - 1e-6)
    linear[bare] += (_background(scene, bare) * (1 - cover[bare])).T.astype(np.float32)
    return _encode(linear.reshape(h, w, 3), np.random.default_rng(scene.seed))


def _subpixels(edge: np.ndarray, samples: int) -> np.ndarray:
    """Where edge pixels are sampled, pixel after pixel, ``(k 2)``."""
    y, x = np.nonzero(edge)
    dy, dx = np.divmod(np.arange(samples**2), samples)
    return np.stack([(x[:, None] + (dx + 0.5) / samples).ravel(), (y[:, None] + (dy + 0.5) / samples).ravel()], 1)


def _spots(camera: Camera, hits: Hits, edge: np.ndarray, fine: Hits, samples: int) -> _Spots:
    """One spot for a pixel inside a part, one for each sample of a pixel at an edge."""
    seen, edge = hits.part.ravel(), edge.ravel()
    inner, fringe = np.flatnonzero(~edge & (seen >= 0)), np.repeat(np.flatnonzero(edge), samples**2)
    there = np.flatnonzero(fine.part[: len(fringe)] >= 0)
    owner = np.concatenate([seen[inner], fine.part[there]])
    order = np.argsort(owner, kind="stable")
    weight = np.repeat(np.array([1, 1 / samples**2], np.float32), [len(inner), len(there)])[order]
    ray = np.concatenate([hits.ray.reshape(3, -1)[:, inner], fine.ray[:, there]], 1)[:, order]
    point = np.concatenate([hits.point(camera).reshape(3, -1)[:, inner], fine.point(camera)[:, there]], 1)[:, order]
    return _Spots(np.concatenate([inner, fringe[there]])[order], weight, owner[order], ray, point)


def _edges(parts: list[Part], camera: Camera, hits: Hits) -> np.ndarray:
    """Pixels whose part, or face of a polyhedron, differs from a neighbour's, ``(h w)`` bool."""
    label = hits.part.astype(np.int32) * 64
    for number in np.unique(hits.part):
        part = parts[number]
        if number >= 0 and isinstance(part.solid, Polyhedron):
            y, x = np.nonzero(hits.part == number)
            here = Hits(hits.ray[:, y, x], hits.distance[y, x], hits.part[y, x])
            label[y, x] += part.solid.depths(part.local(here.point(camera))).argmax(0)
    edge = np.zeros(label.shape, bool)
    for a, b in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differs = label[a] != label[b]
        edge[a] |= differs
        edge[b] |= differs
    return edge


def _runs(owner: np.ndarray) -> list[tuple[int, slice]]:
    """The part and the place of each run of a sorted array."""
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    stops = [*starts[1:], len(owner)]
    return [(int(owner[a]), slice(int(a), int(b))) for a, b in zip(starts, stops, strict=True)] if len(owner) else []


def _soften(normal: np.ndarray, spots: _Spots, size: tuple[int, int], rigid: np.ndarray) -> np.ndarray:
    """Blur the normals of soft parts, so that limbs flow into the trunk as if joined by skin."""
    h, w = size
    if rigid.all():
        return normal
    weight = np.where(rigid, 0, spots.weight)
    field = np.stack([np.bincount(spots.pixel, band * weight, h * w) for band in normal]).reshape(3, h, w)
    for axis in (1, 2, 1, 2):
        field = _box_blur(field, max(1, w // 100), axis)
    soft = field.reshape(3, -1)[:, spots.pixel].astype(np.float32)
    soft /= np.maximum(np.sqrt((soft**2).sum(0)), np.float32(1e-6))
    return np.where(rigid, normal, soft)


def _box_blur(field: np.ndarray, radius: int, axis: int) -> np.ndarray:
    """Sum over ``2 radius + 1`` neighbours along an axis, zero beyond the edge."""
    pad = [(0, 0)] * field.ndim
    pad[axis] = (radius + 1, radius)
    total = np.moveaxis(np.pad(field, pad).cumsum(axis), axis, 0)
    return np.moveaxis(total[2 * radius + 1 :] - total[: -2 * radius - 1], 0, axis)


def _surface(scene: Scene, parts: list[Part], spots: _Spots, normal: np.ndarray) -> np.ndarray:
    """Light leaving each spot, ``(3 k)``."""
    light = np.zeros_like(normal)
    towards, back = scene.backdrop.sun.astype(np.float32)[:, None], scene.backdrop
    sun, ambient = (np.array(c, np.float32)[:, None] for c in (back.sunlight, back.ambient))
    noise = np.random.default_rng(scene.seed + 1).random(len(spots.owner), np.float32) - np.float32(0.5)
    facing = (normal * towards).sum(0)
    for number, place in _runs(spots.owner):
        part, facet = parts[number], normal[:, place]
        paint = scene.palette[part.paint]
        grain = 1 + np.float32(2 * paint.grain) * noise[place]
        wrap = np.float32(0.0 if part.rigid else 0.15)  # fur lets light creep round
        diffuse = np.maximum((facing[place] + wrap) / (1 + wrap), 0)
        incoming = ambient * (np.float32(0.62) + np.float32(0.38) * facet[2]) + sun * diffuse
        light[:, place] = paint.colour(part, spots.point[:, place], facet) * grain * incoming
        if paint.gloss:
            light[:, place] += np.float32(0.5 * paint.gloss) * sun * _shine(spots.ray[:, place], facet, towards)
    return light


def _shine(ray: np.ndarray, normal: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """Phong's highlight."""
    mirrored = ray - 2 * (ray * normal).sum(0) * normal
    return (mirrored * towards).sum(0).clip(0, 1) ** 24


def _background(scene: Scene, pixel: np.ndarray) -> np.ndarray:
    """Ground, hills and sky at flat pixel indices, linear light ``(3 k)``."""
    y, x = np.divmod(pixel, scene.camera.size[1])
    ray = scene.camera.rays(x.astype(np.float32) + 0.5, y.astype(np.float32) + 0.5)
    below = ray[2] < -1e-3
    colour = np.empty_like(ray)
    colour[:, ~below] = _sky(scene, ray[:, ~below])
    away = np.float32(scene.camera.position[2]) / -ray[2, below]
    place = scene.camera.position.astype(np.float32)[:2, None] + ray[:2, below] * away
    haze = (away / 40).clip(0, 1) ** 1.5
    ground = _ground(scene, place)
    colour[:, below] = ground + (np.array(scene.backdrop.hills, np.float32)[:, None] - ground) * haze
    return colour


def _sky(scene: Scene, ray: np.ndarray) -> np.ndarray:
    back = scene.backdrop
    horizon, above = (np.array(c, np.float32)[:, None] for c in back.sky)
    air = horizon + (above - horizon) * np.sqrt(ray[2].clip(0, 1))
    flat = ray[:2] / np.sqrt((ray[:2] ** 2).sum(0))
    ridge = 0.05 + 0.06 * back.ridge(flat) + 0.012 * back.ridge(flat * 5)
    return np.where(ray[2] < ridge, np.array(back.hills, np.float32)[:, None], air)


def _ground(scene: Scene, place: np.ndarray) -> np.ndarray:
    back = scene.backdrop
    first, second = (np.array(c, np.float32)[:, None] for c in (back.ground.rgb, back.ground.second))
    waves = back.ground.waves
    near = place.clip(-60, 60)
    share = np.zeros_like(place[0]) if waves is None else waves(near) + 0.6 * waves(near * 4.7)
    colour = first + (second - first) * (0.5 + 0.8 * share).clip(0, 1)
    noise = np.random.default_rng(scene.seed + 2).random(len(place[0]), np.float32) - np.float32(0.5)
    colour = colour * (1 + np.float32(back.ground.grain) * noise)
    direct, contact = _shadows(scene, place)
    sun = np.array(back.sunlight, np.float32)[:, None] * np.float32(back.sun[2]) * (1 - direct)
    return colour * (np.array(back.ambient, np.float32)[:, None] * (1 - 0.6 * contact) + sun)


def _shadows(scene: Scene, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much sun and how much sky the body keeps from ground points ``(2 k)``, 0..1."""
    cells, reach, overcast = 96, 2.6, scene.backdrop.overcast
    axis = np.linspace(-reach, reach, cells)
    parts = [part for part in scene.model.parts if not part.rigid or isinstance(part.solid, Polyhedron | Cylinder)]
    shaded = Image.fromarray(shadow(parts, scene.backdrop.sun, np.stack(np.meshgrid(axis, axis), -1)))
    under = Image.new("L", (cells, cells))
    draw = ImageDraw.Draw(under)
    for foot in (corners(parts)[..., :2] + reach) / (2 * reach) * (cells - 1):
        draw.ellipse([*foot.min(0), *foot.max(0)], fill=255)
    blurred = ((shaded.convert("L"), 0.7 + 3 * overcast), (under, 3.0))
    fields = [np.asarray(m.filter(ImageFilter.GaussianBlur(r)), np.float32) / 255 for m, r in blurred]
    at = (place + reach) / (2 * reach) * (cells - 1)
    near = np.flatnonzero(((at > 0) & (at < cells - 1.001)).all(0))
    direct, contact = np.zeros((2, place.shape[1]), np.float32)
    direct[near], contact[near] = (_bilinear(field, at[:, near]) for field in fields)
    return direct * np.float32(1 - 0.5 * overcast), contact


def _bilinear(field: np.ndarray, at: np.ndarray) -> np.ndarray:
    x, y = at.astype(int)
    fx, fy = at[0] - x, at[1] - y
    top = field[y, x] * (1 - fx) + field[y, x + 1] * fx
    return top * (1 - fy) + (field[y + 1, x] * (1 - fx) + field[y + 1, x + 1] * fx) * fy


def _encode(linear: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Linear light to 8 bits with a little sensor noise."""
    shown = linear.clip(0, 1) ** np.float32(1 / 2.2) + np.float32(0.008) * rng.standard_normal(linear.shape, np.float32)
    return (shown * 255 + 0.5).clip(0, 255).astype(np.uint8)
