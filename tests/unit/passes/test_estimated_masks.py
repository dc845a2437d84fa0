"""Masks for images without one: estimated once, kept beside the features, posed with their views."""

import pickle

import numpy as np
import pytest
import torch
from helpers.spair_tree import write_tree
from helpers.tiny import TinyBackbone
from lightning import Trainer
from PIL import Image, ImageDraw

import geoalign.passes.masks
from geoalign.backbone.store import FeatureStore
from geoalign.data.batch.collate import Collate, Sample
from geoalign.data.batch.masks import load_masks
from geoalign.data.batch.views import PixelLoader, ViewRef
from geoalign.data.datamodule import Connection, PairDataModule
from geoalign.data.readers.spair import SPair71k
from geoalign.geometry import FLIP, FRAME_PX, UPRIGHT, Pose, letterbox_points
from geoalign.matching import Aligned
from geoalign.passes.features import fill
from geoalign.passes.masks import SavedMasks, estimate_masks
from geoalign.passes.sam import SamMasks

SUBJECT = (8, 10, 34, 34)  # x1 y1 x2 y2 px, left of the middle


def trainer(**options):
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    shared = {"accelerator": "cpu", "devices": 1, "use_distributed_sampler": False, "enable_model_summary": False}
    return lambda: Trainer(**{**shared, **silent, **options})


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Pictures of a bright subject on a dark ground; one cat has a segmentation."""
    root = tmp_path_factory.mktemp("spair")
    write_tree(root)
    for shade, path in enumerate(sorted((root / "JPEGImages").rglob("*.jpg"))):
        picture = Image.new("RGB", Image.open(path).size, (20, 25, 4 * shade))
        ImageDraw.Draw(picture).rectangle(SUBJECT, fill=(250, 230, 200))
        picture.save(path, quality=95)
    mask = root / "Segmentation/cat/2008_000001.png"
    mask.parent.mkdir(parents=True)
    Image.new("L", (60, 40), 255).save(mask)
    return SPair71k(root)


@pytest.fixture
def store(source, tmp_path):
    """Filled with every image upright, fine enough to see the subject."""
    store = FeatureStore(tmp_path / "features", precision="fp32")
    fill(store, TinyBackbone(image_size=256), [ViewRef(image) for image in source.images], trainer())
    return store


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def truth(image, side):
    """The subject in the frame."""
    corners = letterbox_points(np.array(SUBJECT, float).reshape(2, 2), image.size, side).round().astype(int)
    square = np.zeros((side, side), dtype=bool)
    square[corners[0, 1] : corners[1, 1], corners[0, 0] : corners[1, 0]] = True
    return square


def test_the_subject_is_found_and_kept_beside_the_features(source, store):
    backbone = TinyBackbone(image_size=256)
    saved = estimate_masks("foreground", store, backbone, source.images, trainer())
    files = sorted(saved.folder.iterdir())
    assert saved.folder.parent == store.root
    assert len(files) == 4, "five images, one of which has a mask of its own"
    for image in source.images:
        mask = saved(image, 64)
        assert mask.shape == (64, 64)
        if image.mask_path is None:
            assert iou(mask, truth(image, 64)) > 0.6
    stamps = [path.stat().st_mtime_ns for path in files]
    estimate_masks("foreground", store, backbone, source.images, trainer())
    assert [path.stat().st_mtime_ns for path in files] == stamps


def test_the_datasets_mask_comes_first(source, store):
    saved = estimate_masks("foreground", store, TinyBackbone(image_size=256), source.images, trainer())
    own = next(image for image in source.images if image.mask_path is not None)
    assert saved(own, 60)[10:50].all(), "40 of 60 px are the image, the rest are bars"
    assert not saved(own, 60)[:9].any()


def test_two_ranks_make_the_same_masks(source, store):
    backbone = TinyBackbone(image_size=256)
    one = estimate_masks("foreground", store, backbone, source.images, trainer())
    made = {path.name: path.read_bytes() for path in one.folder.iterdir()}
    for path in one.folder.iterdir():
        path.unlink()
    estimate_masks("foreground", store, backbone, source.images, trainer(devices=2, strategy="ddp_fork"))
    assert {path.name: path.read_bytes() for path in one.folder.iterdir()} == made


def test_other_features_are_other_masks(source, store, tmp_path):
    saved = estimate_masks("foreground", store, TinyBackbone(image_size=256), source.images, trainer())
    other = FeatureStore(store.root, precision="fp32")
    fill(other, TinyBackbone(1, 256), [ViewRef(image) for image in source.images], trainer())
    assert estimate_masks("foreground", other, TinyBackbone(1, 256), source.images, trainer()).folder != saved.folder


def test_masks_turn_with_their_views(source, store):
    saved = pickle.loads(
        pickle.dumps(estimate_masks("foreground", store, TinyBackbone(image_size=256), source.images, trainer()))
    )
    image = next(image for image in source.images if image.mask_path is None)
    poses = (UPRIGHT, FLIP, Pose(False, 90.0))
    upright, flipped, turned = load_masks([ViewRef(image, pose) for pose in poses], 32, saved)
    assert upright.any()
    assert torch.equal(flipped, upright.flip(-1))
    assert torch.equal(turned, torch.rot90(upright))


def test_batches_carry_the_estimates(source, store):
    saved = estimate_masks("foreground", store, TinyBackbone(image_size=256), source.images, trainer())
    data = PairDataModule(test={"mini": source}, eval_batch=2)
    data.connect(Connection(PixelLoader((64,)), poses=(UPRIGHT, FLIP), mask_side=32, masks=saved))
    masks = next(iter(data.test_dataloader()[0]))["views"]["masks"]
    assert masks.any(-1).any(-1).all()
    plain = Collate(source, PixelLoader((64,)), mask_side=32)([Sample(source[i]) for i in range(len(source))])
    assert int(plain["views"]["masks"].any(-1).any(-1).sum()) == 1


class Boxes(SamMasks):
    """Stands in for SAM: everything in the box."""

    def identity(self):
        return {"name": "boxes", "source": self.source}

    def in_boxes(self, frames, box_px):
        assert frames.shape[1:] == (3, FRAME_PX, FRAME_PX)
        at = torch.arange(FRAME_PX) + 0.5
        inside = [
            ((at > y1) & (at < y2))[:, None] & ((at > x1) & (at < x2))[None] for x1, y1, x2, y2 in box_px.tolist()
        ]
        return torch.stack(inside)


def test_sam_is_asked_with_the_box_in_the_frame(source, tmp_path, monkeypatch):
    monkeypatch.setattr(geoalign.passes.masks, "SamMasks", Boxes)
    store = FeatureStore(tmp_path)  # its features are not needed
    saved = estimate_masks("sam", store, TinyBackbone(), source.images, trainer(), sam="some/sam")
    image = next(image for image in source.images if image.mask_path is None)
    corners = letterbox_points(np.array(image.box_px).reshape(2, 2), image.size, 210)
    mask = saved(image, 210)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    np.testing.assert_allclose([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], corners.flatten(), atol=1)
    assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


def test_an_empty_box_names_its_image(source):
    bad = source.images[0]._replace(box_px=(5.0, 5.0, 5.0, 9.0))
    views = PixelLoader((FRAME_PX,))([ViewRef(bad)])
    with pytest.raises(ValueError, match=rf"{bad.path}: box .* is empty"):
        Boxes("x")([ViewRef(bad)], views)


def test_a_missing_estimate_is_named(source, tmp_path):
    image = next(image for image in source.images if image.mask_path is None)
    with pytest.raises(ValueError, match="no such file"):
        SavedMasks(tmp_path)(image, 32)


@pytest.mark.unchecked
def test_what_alignment_accepts():
    assert Aligned(masks="none").mask_side is None
    assert Aligned(masks="sam", mask_side=99).mask_side == 99
    for wrong in ({"masks": "some"}, {"masks": "none", "distance": "masked"}):
        with pytest.raises(ValueError, match=r"alignment\.masks is dataset"):
            Aligned(**wrong)
