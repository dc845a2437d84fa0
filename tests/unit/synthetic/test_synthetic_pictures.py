"""Synthetic scenes: what a picture's truth must agree with."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from geoalign.synthetic import scene as scenes
from geoalign.synthetic.paint import bodywork, coat
from geoalign.synthetic.parts import ellipsoid
from geoalign.synthetic.picture import Picture, render
from geoalign.synthetic.render import Camera, cast, look_at
from geoalign.synthetic.scene import Scene, content_rng, random_scene
from geoalign.synthetic.species import AP10K_NAMES, CATEGORIES, KEYPOINTS, SPECIES, symmetry, symmetry_of


@pytest.fixture(scope="module", autouse=True)
def small():
    """Pictures small enough for a quick run."""
    patch = pytest.MonkeyPatch()
    patch.setattr(scenes, "SIZES", ((96, 128), (128, 112)))
    yield
    patch.undo()


def plain_scene(category: str, azimuth: float, seed: int = 0) -> Scene:
    """One body, whole and alone, seen from a known side."""
    scene = random_scene(category, content_rng(seed, category))
    solid = np.concatenate([scene.model.points, [[0, 0, 0]]])
    target = (solid.min(0) + solid.max(0)) / 2
    camera = Camera(*look_at(target, azimuth, 0.15, 9.0), 260.0, (64.0, 48.0), (96, 128))
    return scene._replace(camera=camera, clutter=[], azimuth=azimuth % (2 * np.pi))


@pytest.fixture(scope="module")
def pictures() -> list[tuple[str, Scene, Picture]]:
    made = [(c, random_scene(c, content_rng(3, c, i))) for c in CATEGORIES for i in range(3)]
    return [(category, scene, render(scene)) for category, scene in made]


def slot(category: str, name: str) -> int:
    return KEYPOINTS[category].index(name)


@pytest.mark.parametrize("category", CATEGORIES)
def test_tables_are_sound_and_rich(category: str) -> None:
    facts = symmetry(category)
    assert len(facts.names) >= 15
    assert facts.problems(30) == []
    assert len(facts.mirror_pairs) == facts.side.count(1) == facts.side.count(2) >= 7
    assert max(map(len, facts.groups)) == 4  # all paws, all wheels


def test_quadrupeds_have_ap10ks_keypoints_and_a_paw_group() -> None:
    for name in SPECIES:
        assert set(AP10K_NAMES) <= set(KEYPOINTS[name])
        paws = {slot(name, f"{side}_{end}_paw") for side in ("left", "right") for end in ("front", "back")}
        assert paws in [set(group) for group in symmetry(name).groups]
    assert symmetry_of(("left_a", "right_a", "b")).side == (1, 2, 0)


def test_visible_keypoints_lie_in_the_image_and_on_the_body(pictures: list[tuple[str, Scene, Picture]]) -> None:
    for category, _, picture in pictures:
        h, w = picture.mask.shape
        grown = np.asarray(Image.fromarray(picture.mask).convert("L").filter(ImageFilter.MaxFilter(5))) > 0
        x, y = np.floor(picture.xy_px[picture.visible]).astype(int).T
        assert ((x >= 0) & (x < w) & (y >= 0) & (y < h)).all()
        assert grown[y, x].mean() > 0.93, category
        assert picture.visible.sum() < len(picture.visible)  # no body shows all its sides at once


def test_the_box_is_the_masks_and_pixels_change_where_the_body_is(pictures: list[tuple[str, Scene, Picture]]) -> None:
    for _, scene, picture in pictures:
        rows, columns = np.nonzero(picture.mask)
        assert picture.box_px == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert picture.image.shape == (*picture.mask.shape, 3)
        assert picture.image.std() > 8
        assert picture.azimuth_id == scene.azimuth_id


def test_masks_agree_with_rays_through_every_pixel(pictures: list[tuple[str, Scene, Picture]]) -> None:
    for _, scene, picture in pictures[::4]:
        own = len(scene.model.parts)
        part = cast([*scene.model.parts, *scene.clutter], scene.camera).part
        assert (((part >= 0) & (part < own)) == picture.mask).mean() > 0.98


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_mirrored_world_swaps_left_and_right(category: str) -> None:
    scene = plain_scene(category, 0.7)
    flip, view = np.array([1.0, -1.0, 1.0]), scene.camera
    axes = np.stack([-view.axes[0] * flip, view.axes[1] * flip, view.axes[2] * flip])
    mirrored = scene._replace(
        model=scene.model.mirrored(),
        camera=view._replace(position=view.position * flip, axes=axes),
        azimuth=2 * np.pi - scene.azimuth,
    )
    here, there = render(scene), render(mirrored)
    partner = symmetry(category).permutation(len(here.visible))
    assert (there.mask[:, ::-1] == here.mask).mean() > 0.995
    assert np.allclose(there.xy_px[partner] * [-1, 1] + [128, 0], here.xy_px, atol=1e-6)
    assert (there.visible[partner] == here.visible).all()
    assert (there.azimuth_id + here.azimuth_id) % 8 == 0


@pytest.mark.parametrize("category", CATEGORIES)
def test_each_side_shows_its_own_keypoints(category: str) -> None:
    names = ("front_wheel", "rear_wheel", "door_handle") if category == "car" else ("shoulder", "hip")
    for azimuth, near, far, facing in ((np.pi / 2, "left", "right", -1), (3 * np.pi / 2, "right", "left", 1)):
        picture = render(plain_scene(category, azimuth))
        assert picture.visible[[slot(category, f"{near}_{n}") for n in names]].all()
        assert not picture.visible[[slot(category, f"{far}_{n}") for n in names]].any()
        front, back = ("front_plate", "rear_plate") if category == "car" else ("neck", "root_of_tail")
        ahead = picture.xy_px[slot(category, front), 0] - picture.xy_px[slot(category, back), 0]
        assert np.sign(ahead) == facing  # azimuth 2 faces the image's left, 6 its right
        assert picture.azimuth_id == (2 if near == "left" else 6)


def test_from_the_front_the_bodys_left_is_on_the_images_right() -> None:
    for azimuth, sign in ((0.0, 1), (np.pi, -1)):
        for category in CATEGORIES:
            picture, pair = render(plain_scene(category, azimuth)), symmetry(category).mirror_pairs[2]
            left, right = picture.xy_px[list(pair), 0]
            assert np.sign(left - right) == sign, category


def test_what_stands_in_front_of_a_keypoint_hides_it() -> None:
    scene = plain_scene("cow", np.pi / 2)
    shoulder = slot("cow", "left_shoulder")
    point = scene.model.points[shoulder]
    towards = scene.camera.position - point
    bush = ellipsoid(point + 0.3 * towards, (0.3, 0.3, 0.3), "bush")
    before, after = render(scene), render(scene._replace(clutter=[bush]))
    assert before.visible[shoulder]
    assert not after.visible[shoulder]
    assert after.visible.sum() < before.visible.sum()
    assert not before.occluded
    assert after.occluded
    assert not (after.mask & ~before.mask).any()


def test_what_leaves_the_image_is_cut_and_not_visible() -> None:
    scene = plain_scene("horse", np.pi / 2)
    close = scene._replace(camera=scene.camera._replace(focal_px=900.0))
    assert not render(scene).truncated
    picture = render(close)
    assert picture.truncated
    outside = ((picture.xy_px < 0) | (picture.xy_px >= [128, 96])).any(1)
    assert outside.any()
    assert not picture.visible[outside].any()


def test_left_and_right_legs_share_bones_and_paint() -> None:
    for name in SPECIES:
        model = plain_scene(name, 0.0).model
        points = {n: model.points[slot(name, n)] for n in KEYPOINTS[name]}
        for joint, end in (("elbow", "front_paw"), ("knee", "back_paw")):
            spans = [abs(points[f"{side}_{joint}"][2] - points[f"{side}_{end}"][2]) for side in ("left", "right")]
            assert max(spans) < 2.5 * min(spans)
        paints = [part.paint for part in model.parts if part.paint in ("shank", "cannon", "hoof", "foot")]
        assert {paints.count(paint) for paint in set(paints)} == {4}  # one a leg, whichever side


def test_individuals_differ_and_the_same_draw_does_not() -> None:
    first, again, other = (random_scene("cat", content_rng(seed, "x")) for seed in (1, 1, 2))
    assert (first.model.points == again.model.points).all()
    assert not np.allclose(first.model.points, other.model.points)
    assert (render(first).image == render(again).image).all()


def test_azimuths_cover_the_circle_and_sizes_are_not_square() -> None:
    drawn = [random_scene("car", content_rng(5, i)) for i in range(40)]
    assert {scene.azimuth_id for scene in drawn} == set(range(8))
    assert all(abs((s.azimuth - s.azimuth_id * np.pi / 4 + np.pi) % (2 * np.pi) - np.pi) <= np.pi / 8 for s in drawn)
    assert len({scene.camera.size for scene in drawn}) == 2


def test_every_part_has_a_paint() -> None:
    for category in CATEGORIES:
        scene = random_scene(category, content_rng(6, category))
        assert {part.paint for part in [*scene.model.parts, *scene.clutter]} <= set(scene.palette)
    palettes = [coat("horse", np.random.default_rng(i)) for i in range(9)] + [bodywork(np.random.default_rng(0))]
    colours = np.array([paint.rgb for palette in palettes for paint in palette.values()])
    assert ((colours >= 0) & (colours <= 1)).all()


def test_unknown_categories_are_refused() -> None:
    with pytest.raises(ValueError, match="cat, horse, cow, car, got 'dog'"):
        random_scene("dog", np.random.default_rng(0))
