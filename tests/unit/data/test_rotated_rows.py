"""Rows of kind ``rotated``: the source turned by an angle drawn by content, everything with it."""

import numpy as np
import pytest
import torch
from helpers.spair_tree import write_tree
from helpers.tiny import TinyBackbone, tiny_loss, tiny_module

from geoalign.data.batch.collate import Collate, Sample, training_poses
from geoalign.data.batch.views import PixelLoader
from geoalign.data.datamodule import PairDataModule
from geoalign.data.readers.spair import SPair71k
from geoalign.geometry import FLIP, UPRIGHT, Pose, rotate_points
from geoalign.losses import Moment
from geoalign.types import KINDS


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("spair")
    write_tree(root)
    return SPair71k(root)


def _batch(source, angles, epoch=0, seed=0):
    collate = Collate(source, PixelLoader((64,)), kinds=("plain", "rotated"), angles=angles, seed=seed)
    return collate([Sample(source[i], epoch) for i in range(len(source))])


def _turned(batch):
    return batch["kind"] == KINDS.index("rotated")


def test_pixels_and_points_turn_together_and_slots_stay(source):
    batch = _batch(source, [90])
    turned, plain = _turned(batch), ~_turned(batch)
    bank = batch["views"]["images"][64]
    assert torch.equal(bank[batch["src"][turned]], torch.rot90(bank[batch["src"][plain]], 1, (2, 3)))
    assert torch.equal(batch["trg"][turned], batch["trg"][plain])
    assert torch.equal(batch["visible"][turned], batch["visible"][plain])
    seen = batch["src_visible"][plain]
    expected = rotate_points(batch["src_xy_px"][plain][seen], 90, 840)
    torch.testing.assert_close(batch["src_xy_px"][turned][seen], expected)


def test_angles_are_drawn_by_content(source):
    angles = [90, 180, 270]
    first, again = (_batch(source, angles)["src_xy_px"] for _ in range(2))
    assert torch.equal(first, again)
    others = [_batch(source, angles, epoch, seed)["src_xy_px"] for epoch, seed in ((1, 0), (2, 0), (0, 1))]
    assert any(not torch.equal(first, other) for other in others)


def test_points_that_leave_the_square_are_not_seen(source):
    wide = _batch(source, [45.0])
    inside = wide["src_xy_px"][_turned(wide)][wide["src_visible"][_turned(wide)]].numpy()
    assert ((inside >= 0) & (inside <= 840)).all()
    assert np.isfinite(inside).all()


@pytest.mark.parametrize("angles", [[], [0], [360], [90, -5]])
def test_impossible_angles_are_refused(source, angles):
    with pytest.raises(ValueError, match="between 0 and 360"):
        _batch(source, angles)


def test_the_store_is_asked_for_every_training_pose(source):
    assert training_poses(("plain", "rotated"), [30, 90]) == [UPRIGHT, Pose(degrees=30.0), Pose(degrees=90.0)]
    assert training_poses(("plain", "self")) == [UPRIGHT, FLIP]
    data = PairDataModule(train=source, test={"spair71k": source}, angles=[90])
    assert {r.pose for r in data.views(["train"], ("plain", "rotated"), (UPRIGHT, FLIP))} == {UPRIGHT, Pose(degrees=90)}
    assert {r.pose for r in data.views(["test"], ("plain", "rotated"), (UPRIGHT, FLIP))} == {UPRIGHT, FLIP}


def test_the_loss_weighs_rotated_rows(source):
    batch = Collate(source, PixelLoader((64,)), kinds=("plain", "rotated"))([Sample(source[0]), Sample(source[1])])
    module = tiny_module(TinyBackbone())
    bank, moment = module.bank(batch["views"]), Moment(module.refiner.logit_scale)
    weighed = tiny_loss(plain=1.0, rotated=0.5)(bank, batch, moment)
    without = tiny_loss(plain=1.0, rotated=0.0)(bank, batch, moment)
    assert weighed.parts["dense_rotated"].item() > 0
    assert weighed.weight.item() == pytest.approx(without.weight.item() + 0.5 * 2)
    expected = without.sum.item() + 0.5 * 2 * weighed.parts["dense_rotated"].item()
    assert weighed.sum.item() == pytest.approx(expected, rel=1e-5)
