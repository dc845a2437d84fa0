"""Live pixels change, and points, visibility, sizes and masks with them; drawn from what a view is alone."""

import numpy as np
import pytest
import torch
from helpers.spair_tree import write_tree
from omegaconf import OmegaConf
from PIL import Image

from geoalign.build import check_live
from geoalign.data.batch.augment import crop_slots
from geoalign.data.batch.collate import Collate, Sample
from geoalign.data.batch.colours import CHANGES, KINDS, draw_colours, paint
from geoalign.data.batch.dataset import PairDataset
from geoalign.data.batch.live import Augment
from geoalign.data.batch.masks import load_masks
from geoalign.data.batch.samplers import CliqueSampler, PairSampler
from geoalign.data.batch.views import PixelLoader, ViewRef
from geoalign.data.datamodule import PairDataModule
from geoalign.data.readers.spair import SPair71k
from geoalign.geometry import FLIP, FRAME_PX, Crop, Pose, crop_points, letterbox_points, rotate_points

ALL = {"crop": 0.5, "rotate": 0.5, **dict.fromkeys(KINDS, 0.3)}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("spair")
    write_tree(root)
    return SPair71k(root)


def spotted(path, size, xy):
    """A dark picture with a bright disc."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    Image.fromarray(np.where(np.hypot(x - xy[0], y - xy[1]) < 6, 255, 0).astype(np.uint8)).convert("RGB").save(path)


def collate(source, augment, **options):
    return Collate(source, PixelLoader((64,)), augment=augment, **options)


@pytest.mark.parametrize("flip", [False, True])
def test_pixels_points_and_masks_move_together(source, tmp_path, flip):
    """Over many draws the disc lies where its point is put, and the mask where the disc is."""
    size, spot = (120, 200), np.array([80.0, 50.0])
    spotted(tmp_path / "a.png", size, spot)
    Image.fromarray(np.asarray(Image.open(tmp_path / "a.png").convert("L")) > 128).save(tmp_path / "m.png")
    xy, seen = np.zeros((source.slots, 2), np.float32), np.zeros(source.slots, bool)
    xy[0], seen[0] = spot, True
    image = source[0].src._replace(
        image_id="a", path=tmp_path / "a.png", size=size, xy_px=xy, visible=seen, box_px=(60.0, 30.0, 110.0, 80.0),
        category="none", mask_path=tmp_path / "m.png",
    )  # fmt: skip
    make, augment, moved = collate(source, None), Augment(crop=0.7, rotate=0.7, degrees=40), 0
    for seed in range(12):
        ref = augment(ViewRef(image, Pose(flip)), np.random.default_rng(seed), FRAME_PX)
        (point, *_), (visible, *_) = make._points(ref)
        square = PixelLoader((240,))([ref])["images"][240][0, 0].double()
        mask = load_masks([ref], 240)[0].double()
        assert visible
        for shown in (square, mask):
            y, x = np.mgrid[:240, :240] + 0.5
            total = float(shown.sum())
            at = np.array([float((shown * torch.from_numpy(g)).sum()) / total for g in (x, y)])
            np.testing.assert_allclose(at, point * 240 / FRAME_PX, atol=1.2)
        moved += ref.crop is not None and ref.pose.degrees != 0
    assert moved >= 3


def test_a_point_that_leaves_is_not_visible():
    xy, seen = np.array([[100.0, 100.0], [500.0, 400.0], [0.0, 0.0]], np.float32), np.array([True, True, False])
    moved, visible = crop_slots(xy, seen, Crop(300.0, 300.0, 420.0), 840)
    assert visible.tolist() == [False, True, False]
    assert moved.tolist() == [[0, 0], [400, 200], [0, 0]]


def test_points_follow_a_crop_and_then_a_turn(source):
    image, crop = source[0].src, Crop(100.0, 50.0, 700.0)
    xy, seen = collate(source, None)._points(ViewRef(image, Pose(False, 15.0), crop))
    framed = letterbox_points(image.xy_px.astype(np.float64), image.size)
    want = rotate_points(crop_points(framed, np.array(crop)), 15.0)
    inside = image.visible & ((want >= 0) & (want <= 840)).all(-1)
    cropped = crop_points(framed, np.array(crop))
    inside &= ((cropped >= 0) & (cropped <= 840)).all(-1)
    assert seen.tolist() == inside.tolist()
    np.testing.assert_allclose(xy[seen], want[seen], atol=1e-2)


def test_a_crop_holds_the_box_and_enlarges_no_more_than_told(source):
    image, augment = source[0].src, Augment(crop=1.0, zoom=2.0)
    corners = letterbox_points(np.array(image.box_px).reshape(2, 2), image.size)
    for seed in range(50):
        crop = augment(ViewRef(image), np.random.default_rng(seed), FRAME_PX).crop
        assert 420 <= crop.side <= 840
        inside = crop_points(np.clip(corners, 0, 840), np.array(crop))
        assert inside.min() >= -0.5
        assert inside.max() <= 840.5


def test_sizes_follow_the_crop(source):
    pair = source[0]
    make = collate(source, Augment(crop=1.0))
    batch, plain = make([Sample(pair, 0, 3)]), collate(source, None)([Sample(pair, 0, 3)])
    crop = make._row(Sample(pair, 0, 3), "plain").trg.crop
    assert batch["size_px"][0].item() == pytest.approx(plain["size_px"][0].item() * 840 / crop.side, rel=1e-5)


def test_a_view_has_one_change_in_all_kinds_of_row_and_rows_of_a_clique(source):
    pairs = [source[0], source[0]._replace(src=source[0].trg, trg=source[0].src, pair_id="back")]
    kinds = ("plain", "double", "self")
    batch = collate(source, Augment(**ALL), kinds=kinds)([Sample(pair, 0, 5) for pair in pairs])
    assert len(batch["views"]["images"][64]) == 4  # two images, upright and flipped
    assert torch.equal(batch["src_poses"][:, 0], batch["src"])
    elsewhere = collate(source, Augment(**ALL), kinds=kinds)([Sample(pairs[0], 0, 5), Sample(pairs[1], 0, 6)])
    assert len(elsewhere["views"]["images"][64]) > 4


def draws(source, sampler, epoch, world, start=0):
    """Every view of an epoch by image and place, as any number of ranks draws them."""
    made, dataset, augment = {}, PairDataset(source), Augment(**ALL)
    make = collate(source, augment)
    for rank in range(world):
        sampler.shard(rank, world)
        sampler.set_epoch(epoch)
        sampler.start = start
        for batch in sampler:
            for draw in batch:
                row = make._row(dataset[draw], "plain")
                for ref in (row.src, row.trg):
                    made[draw.place, ref.image.image_id] = ref.pose, ref.crop, ref.colours
    return made


@pytest.mark.parametrize("kind", ["pairs", "cliques"])
def test_neither_ranks_nor_batches_nor_resumption_change_a_draw(source, kind):
    def sampler(world):
        if kind == "pairs":
            return PairSampler(source, 2 // world, seed=1)
        return CliqueSampler(source, size=2, cliques=2 // world, batches=4, seed=1)

    one, two = draws(source, sampler(1), 3, 1), draws(source, sampler(2), 3, 2)
    assert one == two
    rest = draws(source, sampler(1), 3, 1, start=1)
    assert rest
    assert rest.items() < one.items()
    assert one != draws(source, sampler(1), 4, 1)


def test_another_seed_draws_anew_and_the_same_seed_the_same(source):
    def batch(seed):
        return collate(source, Augment(**ALL), seed=seed)([Sample(source[0], 1, 2)])["views"]["images"][64]

    assert torch.equal(batch(1), batch(1))
    assert not torch.equal(batch(1), batch(2))


def test_off_is_the_batch_as_it_was(source):
    samples = [Sample(source[i]) for i in range(3)]
    plain, off = (
        collate(source, None, poses=(Pose(), FLIP))(samples),
        collate(source, Augment(), poses=(Pose(), FLIP))(samples),
    )
    assert torch.equal(plain["views"]["images"][64], off["views"]["images"][64])
    assert torch.equal(plain["src_poses"], off["src_poses"])
    assert not Augment(degrees=90, zoom=2).on


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_of_colour_keeps_shape_and_mode_and_changes_something(name):
    picture = Image.effect_mandelbrot((60, 40), (-2, -1.5, 1, 1.5), 50).convert("RGB")
    picture.paste((200, 90, 30), (5, 5, 30, 30))
    value = next(high for parts in KINDS.values() for part, _, high in parts if part == name)
    out = paint(picture, ((name, value),))
    assert (out.size, out.mode) == (picture.size, "RGB")
    assert out.tobytes() != picture.tobytes()
    assert paint(picture, ((name, value),)).tobytes() == out.tobytes()


def test_bars_stay_black(source):
    ref = ViewRef(source[0].src, colours=(("brightness", 1.2), ("solarize", 128.0), ("equalize", 1.0)))
    frame = PixelLoader((64,))([ref])["images"][64][0].numpy()
    bars = PixelLoader((64,))([ViewRef(source[0].src)])["images"][64][0].numpy().max(0) == 0
    assert bars.mean() > 0.1
    assert frame[:, :2].max() == 0 or frame[:, :, :2].max() == 0


def test_colours_are_drawn_as_often_as_told():
    drawn = [dict(draw_colours(np.random.default_rng(i), {"gray": 0.1, "jitter": 0.2})) for i in range(2000)]
    assert abs(np.mean(["gray" in one for one in drawn]) - 0.1) < 0.03
    assert abs(np.mean(["hue" in one for one in drawn]) - 0.2) < 0.03
    assert not any("solarize" in one for one in drawn)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"crop": 1.5}, r"data\.augment\.crop is a share from 0 to 1, got 1\.5"),
        ({"gray": -0.1}, r"data\.augment\.gray is a share"),
        ({"zoom": 0.5}, r"data\.augment\.zoom is at least 1, got 0\.5"),
        ({"degrees": 200}, r"data\.augment\.degrees lies in 0\.\.180, got 200"),
        ({"turns": {"bottle": 181}}, r"data\.augment\.turns\.bottle lies in 0\.\.180, got 181"),
    ],
)
def test_bad_settings_are_named(setting, message):
    with pytest.raises(ValueError, match=message):
        Augment(**setting)


def test_cached_features_are_refused(source):
    data, store = PairDataModule(train=source, augment=Augment(gray=0.1)), OmegaConf.create({"_target_": "x"})
    with pytest.raises(ValueError, match="set store=off, or data/augment=none"):
        check_live(data, store)
    check_live(data, OmegaConf.create({"_target_": None}))
    check_live(PairDataModule(train=source), store)
    check_live(PairDataModule(test={"mini": source}, augment=Augment(gray=0.1)), store)
