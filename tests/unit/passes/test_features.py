"""Filling the store: on any number of ranks, after any interruption, every view once and as the backbone gives it."""

import pickle
import shutil

import pytest
import torch
from helpers.spair_tree import write_tree
from helpers.tiny import TinyBackbone
from lightning import Trainer
from PIL import Image

from geoalign.backbone.store import FeatureStore, StoreError
from geoalign.data.batch.views import PixelLoader, ViewRef
from geoalign.data.datamodule import PairDataModule
from geoalign.data.readers.spair import SPair71k
from geoalign.geometry import FLIP, Pose
from geoalign.passes.features import StoreLoader, check_preload, fill, stores_under

CPU = torch.device("cpu")


class Counting(TinyBackbone):
    """Notes what it extracts; can fail at a view or give NaN."""

    def __init__(self, fail_at=None, error=None, poison=False):
        super().__init__()
        self.seen, self.fail_at, self.error, self.poison = 0, fail_at, error, poison

    def extract(self, images):
        if self.fail_at is not None and self.seen >= self.fail_at:
            raise self.error
        frames = images[64]
        self.seen += int(frames.flatten(1).any(1).sum())  # a black frame only asks for shapes
        return tuple(m * float("nan") if self.poison and frames.any() else m for m in super().extract(images))


def trainer(**options):
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    shared = {"accelerator": "cpu", "devices": 1, "use_distributed_sampler": False, "enable_model_summary": False}
    return lambda: Trainer(**{**shared, **silent, **options})


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """Five pictures, all different, upright and flipped."""
    root = tmp_path_factory.mktemp("spair")
    write_tree(root)
    for shade, path in enumerate(sorted((root / "JPEGImages").rglob("*.jpg"))):
        picture = Image.linear_gradient("L").resize(Image.open(path).size).convert("RGB")
        picture.paste((40 * shade, 255 - 40 * shade, 90), (5, 5, 25, 20))
        picture.save(path)
    data = PairDataModule(test={"mini": SPair71k(root)})
    return data.views(["test"], ("plain",), (FLIP,))


def test_a_store_without_the_tokens_of_a_cut_network_is_refused(tmp_path, views):
    class Cut(TinyBackbone):
        """Gives a third map, of tokens, under an identity that says nothing of it."""

        def __init__(self):
            super().__init__()
            self.channels = (6, 10, 6)

        def extract(self, images):
            fine, coarse = super().extract(images)
            return fine, coarse, fine[..., :1, :5]

    store = FeatureStore(tmp_path)
    fill(store, TinyBackbone(), views[:2], trainer())
    with pytest.raises(StoreError, match=r"maps of \[6, 10\] channels, the backbone gives \[6, 10, 6\] .*extract"):
        fill(store, Cut(), views, trainer())


class Debiased(TinyBackbone):
    """One direction of noise taken out."""

    def __init__(self, count=1):
        super().__init__()
        self.adjust(False, count)

    def identity(self):
        return {**super().identity(), **self.adjustments}


def test_a_store_keeps_the_directions_that_its_features_were_made_with(views, tmp_path):
    backbone, store = Debiased(), FeatureStore(tmp_path, "fp32")
    fill(store, backbone, views[:4], trainer())
    assert (store.folder / "debias.safetensors").is_file()
    assert len(store) == 4 == len(store.keys())
    again = Debiased()
    again.debias.find = None  # another finding would end here
    fill(FeatureStore(tmp_path, "fp32"), again, views, trainer())
    assert all(torch.equal(a, b) for a, b in zip(again.debias.bases, backbone.debias.bases, strict=True))
    fill(store, plain := TinyBackbone(), views, trainer())
    assert plain.fingerprint != backbone.fingerprint
    assert not (store.folder / "debias.safetensors").exists()


def content(store):
    return {key: store.read(key) for key in sorted(store.keys())}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(x, y) for k in a for x, y in zip(a[k], b[k], strict=True))


@pytest.fixture(scope="module")
def once(views, tmp_path_factory):
    """The store one process makes."""
    store = FeatureStore(tmp_path_factory.mktemp("once"), precision="fp32")
    assert fill(store, TinyBackbone(), views, trainer()) == 10
    return store


def test_reading_is_live_extraction(once, views):
    backbone = TinyBackbone()
    cached = StoreLoader(once, backbone.fingerprint)(views)["maps"]
    live = backbone(PixelLoader((64,))(views)["images"])
    for a, b in zip(cached, live, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)  # batches of other sizes round differently


def test_a_full_store_asks_nothing_of_the_backbone(once, views):
    backbone = Counting(fail_at=0)
    assert fill(once, backbone, views, trainer()) == 0
    assert backbone.seen == 0


@pytest.mark.parametrize("taken", [10, 3, 1])
def test_two_ranks_store_what_one_does(once, views, tmp_path, taken):
    """Three views are an uneven share, one leaves a rank without work."""
    store = FeatureStore(tmp_path, precision="fp32")
    assert fill(store, TinyBackbone(), views[:taken], trainer(devices=2, strategy="ddp_fork"), batch_size=2) == taken
    one = FeatureStore(tmp_path / "one", precision="fp32")
    fill(one, TinyBackbone(), views[:taken], trainer(), batch_size=2)
    torch.testing.assert_close(content(store), content(one), rtol=1e-5, atol=1e-5)
    assert len(store) == taken
    assert fill(store, Counting(fail_at=0), views[:taken], trainer(devices=2, strategy="ddp_fork")) == 0


def test_two_ranks_finish_what_was_begun(views, tmp_path):
    store = FeatureStore(tmp_path, precision="fp32")
    fill(store, TinyBackbone(), views[:4], trainer())
    assert fill(store, TinyBackbone(), views, trainer(devices=2, strategy="ddp_fork")) == 6
    assert len(store) == 10


@pytest.mark.parametrize("error", [RuntimeError("pulled the plug"), KeyboardInterrupt()])
def test_an_interrupted_extraction_keeps_what_it_did(once, views, tmp_path, error):
    store = FeatureStore(tmp_path, precision="fp32")
    with pytest.raises((RuntimeError, SystemExit)):
        fill(store, Counting(fail_at=6, error=error), views, trainer(), batch_size=2)
    assert len(store) == 6
    again = Counting()
    assert fill(store, again, views, trainer(), batch_size=2) == 4
    assert again.seen == 4
    assert len(store) == 10
    torch.testing.assert_close(content(store), content(once), rtol=1e-5, atol=1e-5)


def test_the_same_picture_in_two_datasets_is_extracted_once(views, tmp_path):
    copy = tmp_path / "elsewhere.jpg"
    shutil.copy(views[0].image.path, copy)
    both = [views[0], ViewRef(views[0].image._replace(image_id="other", path=copy))]
    backbone = Counting()
    assert fill(FeatureStore(tmp_path / "store"), backbone, both, trainer()) == 1
    assert backbone.seen == 1


def test_what_another_process_stored_meanwhile_is_not_done_again(views, tmp_path):
    store, backbone = FeatureStore(tmp_path), Counting()

    def late():
        fill(FeatureStore(tmp_path), TinyBackbone(), views[:7], trainer())
        return trainer()()

    assert fill(store, backbone, views, late) == 10
    assert backbone.seen == 3
    assert len(store) == 10


def test_features_do_not_depend_on_the_trainers_precision(once, views, tmp_path):
    store = FeatureStore(tmp_path, precision="fp32")
    fill(store, TinyBackbone(), views, trainer(precision="bf16-mixed"))
    assert same(content(store), content(once))


def test_nan_names_the_image_and_is_not_stored(views, tmp_path):
    store = FeatureStore(tmp_path)
    with pytest.raises(StoreError, match=rf"{views[0].image.path} \(upright\) are not finite"):
        fill(store, Counting(poison=True), views, trainer())
    assert len(store) == 0


def test_a_small_disk_is_refused_before_anything_is_written(views, tmp_path, monkeypatch, capsys):
    usage = shutil.disk_usage(tmp_path)._replace(free=5000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    backbone = Counting()
    with pytest.raises(StoreError, match=r"features take .* too little"):
        fill(FeatureStore(tmp_path), backbone, views, trainer())
    assert backbone.seen == 0
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_size_is_told_before_the_work(views, tmp_path, capsys):
    fill(FeatureStore(tmp_path), TinyBackbone(), views, trainer())
    assert "10 views: features take 0.02 MB" in capsys.readouterr().out  # 10 * ((6 * 64 + 10 * 16) * 2 + 1024) bytes


def test_a_trainer_that_leaves_views_out_is_refused(views, tmp_path):
    with pytest.raises(StoreError, match=r"6 of 10 views were not extracted.*limit_predict_batches"):
        fill(FeatureStore(tmp_path), TinyBackbone(), views, trainer(limit_predict_batches=2), batch_size=2)


def test_preloaded_maps_need_no_files(views, tmp_path):
    store = FeatureStore(tmp_path, precision="int8", preload="cpu")
    fill(store, TinyBackbone(), views, trainer())
    loader = StoreLoader(store, TinyBackbone().fingerprint)
    before = loader(views)["maps"]
    loader.preload(views[:5], CPU)
    for path in tmp_path.rglob("*.safetensors"):
        path.write_bytes(b"")
    store._mapped.clear()
    assert all(torch.equal(a[:5], b) for a, b in zip(before, loader(views[:5])["maps"], strict=True))
    with pytest.raises(StoreError):
        loader(views)
    assert not pickle.loads(pickle.dumps(loader)).store._preloaded, "what is preloaded is not sent to loader processes"


def test_preloading_on_a_device_refuses_what_cannot_be(tmp_path):
    store = FeatureStore(tmp_path, preload="cuda")
    with pytest.raises(ValueError, match=r"2 loader processes cannot read them; set data.workers=0"):
        check_preload(store, workers=2)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"needs a CUDA device.*store.preload=cpu"):
            check_preload(store, workers=0)
    check_preload(FeatureStore(tmp_path, preload="cpu"), workers=2)


def test_stores_are_found_by_what_they_say_of_themselves(views, tmp_path):
    for seed, precision in ((0, "fp16"), (1, "int8")):
        fill(FeatureStore(tmp_path, precision), TinyBackbone(seed), views[:3], trainer())
    found = list(stores_under(tmp_path))
    assert sorted(store.precision for store in found) == ["fp16", "int8"]
    assert [len(store) for store in found] == [3, 3]
    assert list(stores_under(tmp_path / "none")) == []


def test_poses_are_views_of_their_own(views, tmp_path):
    turned = [views[0]._replace(pose=Pose(False, degrees)) for degrees in (0.0, 90.0, 180.0)]
    assert fill(FeatureStore(tmp_path), TinyBackbone(), turned, trainer()) == 3
