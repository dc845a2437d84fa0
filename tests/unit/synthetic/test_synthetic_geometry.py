"""Rays, solids, cameras and shadows of the synthetic benchmark."""

import numpy as np
import pytest

from geoalign.synthetic.parts import Part, block, corners, disc, ellipsoid, limb
from geoalign.synthetic.quadruped import bend
from geoalign.synthetic.render import Camera, cast, look_at, shadow, surface_points, trace

TURNED = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
CUT = ((0.6, 0.0, 0.8, 0.5),)
PARTS = {
    "ellipsoid": ellipsoid(np.array([0.2, -0.1, 0.3]), (0.5, 0.2, 0.8), "coat", TURNED),
    "limb": limb(np.array([0.3, 0.1, 0.9]), np.array([-0.2, 0.4, 0.1]), (0.3, 0.1), "coat"),
    "squashed limb": limb(np.zeros(3), np.array([0.5, 0.0, 0.5]), (0.1, 0.25), "coat", 0.4),
    "swallowed limb": limb(np.zeros(3), np.array([0.1, 0.0, 0.0]), (0.4, 0.1), "coat"),
    "block": block(np.array([0.1, 0.2, 0.3]), (0.6, 0.4, 0.5), "body", CUT),
    "disc": disc(np.array([0.1, 0.2, 0.3]), 0.5, 0.2, "tyre"),
}


def excess(part: Part, point: np.ndarray) -> np.ndarray:
    """Written without the formulas under test: positive outside, negative inside."""
    local = part.inverse @ (point - part.center[:, None])
    kind = type(part.solid).__name__
    if kind == "Ball":
        return (local**2).sum(0) - 1
    if kind == "Cylinder":
        return np.maximum(np.hypot(local[0], local[2]) - 1, np.abs(local[1]) - 1)
    if kind == "Polyhedron":
        half = np.abs(local).T - np.array([0.6, 0.4, 0.5])
        return np.maximum(half.max(1), (np.array(CUT)[:, :3] @ local - 0.5).max(0))
    share = np.linspace(0, 1, 2001)[:, None]
    solid = part.solid
    away = np.sqrt((local[0] - share * solid.length) ** 2 + local[1] ** 2 + local[2] ** 2)
    return (away - (solid.start + share * (solid.end - solid.start))).min(0)


def rays(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    origin = rng.normal(size=(3, count))
    origin *= 4 / np.linalg.norm(origin, axis=0)
    direction = rng.uniform(-0.7, 0.9, (3, count)) - origin
    return origin.astype(np.float32), (direction / np.linalg.norm(direction, axis=0)).astype(np.float32)


@pytest.mark.parametrize("name", PARTS)
def test_rays_enter_where_the_body_begins_and_miss_where_it_is_not(name: str) -> None:
    part, (origin, direction) = PARTS[name], rays()
    t = part.hit(origin, direction)
    met = np.isfinite(t)
    assert 20 < met.sum() < 390
    for step, inside in ((-0.01, False), (0.01, True)):
        depth = excess(part, (origin + (np.where(met, t, 0) + step) * direction)[:, met])
        assert ((depth < 2e-3) if inside else (depth > -2e-3)).mean() > 0.97  # grazing rays leave again at once
    along = np.linspace(0, 8, 600)
    for o, d in zip(origin.T[~met][:40], direction.T[~met][:40], strict=True):
        assert excess(part, o[:, None] + along * d[:, None]).min() > -2e-3


@pytest.mark.parametrize("name", PARTS)
def test_normals_are_unit_outward_and_face_the_ray(name: str) -> None:
    part, (origin, direction) = PARTS[name], rays()
    t = part.hit(origin, direction)
    met = np.isfinite(t)
    point = origin[:, met] + t[met] * direction[:, met]
    normal = part.normal(point)
    assert np.allclose((normal**2).sum(0), 1, atol=1e-4)
    assert ((normal * direction[:, met]).sum(0) < 0.05).all()
    assert (excess(part, point + 0.02 * normal) > excess(part, point - 0.02 * normal)).mean() > 0.98


@pytest.mark.parametrize("name", PARTS)
def test_a_mirrored_part_is_met_by_mirrored_rays(name: str) -> None:
    part, (origin, direction) = PARTS[name], rays()
    flip = np.float32([[1], [-1], [1]])
    assert np.allclose(part.mirrored().hit(origin * flip, direction * flip), part.hit(origin, direction), atol=1e-3)


def test_boxes_hold_their_parts() -> None:
    origin, direction = rays()
    for part, box in zip(PARTS.values(), corners(list(PARTS.values())), strict=True):
        t = part.hit(origin, direction)
        point = (origin + np.where(np.isfinite(t), t, 0) * direction).T[np.isfinite(t)]
        assert (point > box.min(0) - 1e-3).all()
        assert (point < box.max(0) + 1e-3).all()


def camera(azimuth: float = 0.4, elevation: float = 0.2) -> Camera:
    return Camera(*look_at(np.array([0, 0, 0.3]), azimuth, elevation, 5.0), 60.0, (32.0, 24.0), (48, 64))


def test_a_ray_passes_through_the_point_it_was_projected_from() -> None:
    points = np.random.default_rng(2).uniform(-0.5, 0.5, (10, 3))
    view = camera()
    ray = view.rays(*view.project(points).astype(np.float32).T)
    away = points - view.position
    assert np.allclose(ray.T, away / np.linalg.norm(away, axis=1, keepdims=True), atol=1e-5)


def test_ninety_degrees_show_the_left_side_facing_the_images_left() -> None:
    view = camera(np.pi / 2)
    head, left, right = np.array([[1.0, 0, 0.3], [0, 0.5, 0.3], [0, -0.5, 0.3]])
    assert view.project(head[None])[0, 0] < 32
    assert np.linalg.norm(left - view.position) < np.linalg.norm(right - view.position)
    assert view.project(head[None] + [0, 0, 0.2])[0, 1] < view.project(head[None])[0, 1]  # up is up


def test_scattered_rays_see_what_the_picture_sees() -> None:
    view, parts = camera(), list(PARTS.values())
    hits = cast(parts, view)
    y, x = np.mgrid[:48, :64]
    scattered = trace(parts, view, np.stack([x.ravel() + 0.5, y.ravel() + 0.5], 1))
    assert (hits.part.ravel() == scattered.part).mean() > 0.998
    same = (hits.part.ravel() == scattered.part) & np.isfinite(scattered.distance)
    assert np.allclose(hits.distance.ravel()[same], scattered.distance[same], atol=1e-3)
    assert set(np.unique(hits.part)) > {-1}


def test_parts_added_in_front_hide_those_behind_and_keep_their_numbers() -> None:
    view = camera(0.0, 0.0)
    back, front = ellipsoid(np.array([0, 0, 0.5]), (0.3,) * 3, "a"), ellipsoid(np.array([1, 0, 0.5]), (0.2,) * 3, "b")
    both = cast([front], view, 1, cast([back], view))
    assert set(np.unique(both.part)) == {-1, 0, 1}
    assert (both.part == cast([back, front], view).part).all()


def test_the_ground_hides_what_is_below_it() -> None:
    buried = ellipsoid(np.array([0, 0, -0.5]), (0.3,) * 3, "rock")
    assert (cast([buried], camera()).part == -1).all()


def test_shadows_fall_away_from_the_light() -> None:
    grid = np.stack(np.meshgrid(np.linspace(-2, 2, 81), np.linspace(-2, 2, 81)), -1)
    ball = ellipsoid(np.array([0, 0, 1.0]), (0.3,) * 3, "coat")
    light = np.array([1.0, 0, 1.0]) / np.sqrt(2)
    shaded = shadow([ball], light, grid)
    assert np.allclose(grid[shaded].mean(0), [-1, 0], atol=0.05)
    assert np.isclose(shaded.mean() * 16, np.pi * 0.3 * 0.3 * np.sqrt(2), rtol=0.1)


def test_surface_points_lie_on_the_surface_or_say_that_there_is_none() -> None:
    ball = ellipsoid(np.zeros(3), (0.5,) * 3, "coat")
    found = surface_points([ball], np.zeros((1, 3)), np.array([[0, 0, 2.0]]), np.array([1.0]))
    assert np.allclose(found, [[0, 0, 0.5]], atol=1e-5)
    with pytest.raises(ValueError, match="move the inner point"):
        surface_points([ball], np.array([[0, 3.0, 0]]), np.array([[0, 0, 1.0]]), np.array([1.0]))


@pytest.mark.parametrize("forward", [1.0, -1.0])
def test_bent_legs_keep_their_bones_and_bend_the_right_way(forward: float) -> None:
    hip, paw = np.array([0, 0.1, 1.0]), np.array([0.1, 0.12, 0.3])
    knee, end = bend(hip, paw, 0.5, 0.4, forward)
    assert np.allclose([np.linalg.norm(knee - hip), np.linalg.norm(end - knee)], [0.5, 0.4])
    assert np.allclose(end, paw)
    assert forward * (knee - (hip + paw) / 2)[0] > 0
    _, short = bend(hip, np.array([0, 0.1, -9.0]), 0.5, 0.4, forward)  # out of reach: as far as the leg goes
    assert np.linalg.norm(short - hip) < 0.9
