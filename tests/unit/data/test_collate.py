"""The bank holds each view once; rows index into it and carry their facts."""

import numpy as np
import pytest
import torch
from helpers.spair_tree import write_tree

from geoalign.data.batch.collate import Collate, Sample
from geoalign.data.batch.masks import load_masks
from geoalign.data.batch.views import PixelLoader, ViewRef
from geoalign.data.readers.spair import SPair71k
from geoalign.geometry import FLIP, UPRIGHT, Pose, letterbox_points
from geoalign.types import KINDS

ALL = ("plain", "single", "double", "self")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("spair")
    write_tree(root)
    return SPair71k(root)


def _collate(source, **options):
    return Collate(source, PixelLoader((64, 96)), **options)


def _samples(source, count=6, epoch=0):
    return [Sample(source[i], epoch) for i in range(count)]


def test_every_view_is_in_the_bank_once(source):
    batch = _collate(source, kinds=ALL)(_samples(source, len(source)))
    bank = batch["views"]["images"]
    assert set(bank) == {64, 96}
    assert len(bank[64]) == 2 * 5  # five images, upright and flipped
    assert int(batch["src"].max()) < 10
    assert bank[64].dtype == torch.uint8


def test_a_row_points_at_its_own_views(source):
    samples = _samples(source, 2)
    batch = _collate(source, kinds=("plain", "double"))(samples)
    upright = PixelLoader((64,))([ViewRef(samples[0].pair.src)])["images"][64][0]
    plain, double = (int(i) for i in batch["src"][:2])
    assert torch.equal(batch["views"]["images"][64][plain], upright)
    assert torch.equal(batch["views"]["images"][64][double], upright.flip(-1))


def test_points_are_letterboxed_and_permuted_under_flips(source):
    pair = source[0]
    batch = _collate(source, kinds=("plain", "single"))([Sample(pair)])
    framed = letterbox_points(pair.src.xy_px, pair.src.size)
    seen = pair.src.visible
    np.testing.assert_allclose(batch["src_xy_px"][0][seen], framed[seen], rtol=1e-6)
    partner = source.symmetries[pair.category].permutation(source.slots)
    flipped = batch["src_xy_px"][1][torch.from_numpy(seen[partner])].numpy()
    expected = (np.array([840, 0]) - framed * [1, -1])[partner][seen[partner]]
    np.testing.assert_allclose(flipped, expected, rtol=1e-5)
    assert torch.equal(batch["visible"], batch["src_visible"] & batch["trg_visible"])


def test_kinds_and_targets(source):
    batch = _collate(source, kinds=ALL)(_samples(source, 1))
    assert [KINDS[k] for k in batch["kind"]] == list(ALL)
    src, trg = batch["src"].tolist(), batch["trg"].tolist()
    assert src[1] == src[2] == src[3] != src[0]  # the flipped source
    assert trg[3] == src[0]  # self: its own upright image
    assert trg[1] == trg[0] != trg[2]


def test_repeated_rows_are_counted_not_computed_twice(source):
    same_source = [Sample(source[i]) for i in range(len(source)) if source[i].src is source[2].src]
    assert len(same_source) == 2
    batch = _collate(source, kinds=("plain", "self"))(same_source)
    counts = {KINDS[k]: c for k, c in zip(batch["kind"].tolist(), batch["count"].tolist(), strict=True)}
    assert len(batch["kind"]) == 3
    assert counts == {"plain": 1.0, "self": 2.0}


def test_alignment_poses_are_views_of_the_source(source):
    poses = (UPRIGHT, FLIP, Pose(False, 90.0))
    batch = _collate(source, poses=poses)(_samples(source, 2))
    assert batch["src_poses"].shape == (2, 3)
    assert torch.equal(batch["src_poses"][:, 0], batch["src"])
    bank = batch["views"]["images"][64]
    upright, flip, quarter = bank[batch["src_poses"][0]]
    assert torch.equal(flip, upright.flip(-1))
    assert torch.equal(quarter, torch.rot90(upright, 1, (1, 2)))


def test_the_first_pose_must_be_upright(source):
    with pytest.raises(ValueError, match="first pose is upright"):
        _collate(source, poses=(FLIP, UPRIGHT))


def test_noise_depends_on_content_and_epoch_alone(source):
    together = _collate(source, seed=3)(_samples(source, 4))["noise"]
    alone = _collate(source, seed=3)([_samples(source, 4)[2]])["noise"]
    assert torch.equal(together[2], alone[0])
    assert not torch.equal(_collate(source, seed=3)([_samples(source, 4, epoch=1)[2]])["noise"], alone)
    assert not torch.equal(_collate(source, seed=4)([_samples(source, 4)[2]])["noise"], alone)
    assert abs(float(together.std()) - 1) < 0.2


def test_sizes_are_in_the_frame(source):
    pair = source[0]
    x1, y1, x2, y2 = pair.trg.box_px
    expected = max(x2 - x1, y2 - y1) * 840 / max(pair.trg.size)
    assert _collate(source)([Sample(pair)])["size_px"][0] == pytest.approx(expected)


def test_images_without_segmentation_have_an_empty_mask(source):
    masks = load_masks([ViewRef(source[0].src), ViewRef(source[0].trg, FLIP)], 30)
    assert masks.shape == (2, 30, 30)
    assert not masks.any()
