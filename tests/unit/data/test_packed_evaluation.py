"""Packed evaluation batches: the same predictions, fewer views refined, never more in a bank than allowed."""

import numpy as np
import pytest
import torch
from helpers.spair_tree import write_tree
from helpers.tiny import tiny_module
from lightning import Callback, Trainer
from PIL import Image

from geoalign.callbacks import PoseAlignment
from geoalign.data.batch.views import PixelLoader
from geoalign.data.datamodule import Connection, Limits, PairDataModule
from geoalign.data.readers.spair import SPair71k
from geoalign.data.records import DataError
from geoalign.matching import Aligned, Plain
from geoalign.types import DatasetInfo

IMAGES = {"cat": [f"2008_{i:06d}" for i in range(7)], "bus": [f"2009_{i:06d}" for i in range(3)]}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """48 pairs of ten images of smooth noise."""
    root = tmp_path_factory.mktemp("packed")
    write_tree(root, IMAGES)
    rng = np.random.default_rng(0)
    for path in sorted(root.rglob("*.jpg")):
        with Image.open(path) as blank:
            size = blank.size
        coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(path, quality=95)
    return SPair71k(root)


class Seen(Callback):
    """Views of every batch, and the predictions of every pair by its id."""

    def __init__(self):
        self.views, self.found = [], {}

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self.views.append(len(outputs["bank"]))
        for name, prediction in outputs["predictions"].items():
            for row, pair in enumerate(batch["pair_id"]):
                key = name, pair
                assert key not in self.found, "every pair once"
                self.found[key] = torch.cat([prediction.matches.xy_px[row].flatten(), prediction.matches.score[row]])


def evaluated(source, poses, **options):
    seen, module = Seen(), tiny_module(methods=(Plain(), Aligned(poses, "mutual")))
    module.describe({"val": [], "test": [DatasetInfo("mini", source.categories)]})
    data = PairDataModule(test={"mini": source}, **options)
    data.connect(Connection(PixelLoader((64,)), poses=module.poses))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", callbacks=[PoseAlignment(), seen], use_distributed_sampler=False, **quiet)
    trainer.test(module, data, verbose=False)
    return seen, {key: float(value) for key, value in trainer.callback_metrics.items()}


@pytest.mark.parametrize(("poses", "budget"), [(("upright", "flip"), 8), (("upright", "flip", "rot90"), 18)])
def test_packing_changes_no_prediction_and_refines_fewer_views(source, poses, budget):
    plain, metrics = evaluated(source, poses, eval_batch=5, eval_views=None)
    packed, same = evaluated(source, poses, eval_batch=64, eval_views=budget)
    assert packed.found.keys() == plain.found.keys()
    assert len(packed.found) == 2 * len(source)
    for key, expected in plain.found.items():
        torch.testing.assert_close(packed.found[key], expected, rtol=1e-5, atol=1e-4)
    assert same == pytest.approx(metrics, abs=1e-6)
    assert max(packed.views) <= budget
    assert sum(packed.views) < sum(plain.views)


def test_a_set_that_fits_is_refined_once_per_view(source):
    packed, _ = evaluated(source, ("upright", "flip"), eval_batch=1024)
    assert packed.views == [2 * sum(map(len, IMAGES.values()))]


def test_rows_drawn_twice_are_evaluated_twice(source):
    packed, metrics = evaluated(source, ("upright", "flip"), limits=Limits(test=60, replacement=True))
    assert metrics["test/mini/count/pairs"] == 60
    assert len(packed.found) == 120


def test_the_loader_knows_its_part(source):
    data = PairDataModule(test={"mini": source}, eval_batch=7)
    data.connect(Connection(PixelLoader((64,))))
    (loader,) = data.test_dataloader()
    assert len(loader.sampler) == len(loader.dataset) == len(source)
    assert max(len(batch["src"]) for batch in loader) <= 7


@pytest.mark.parametrize("wrong", [{"eval_views": 1}, {"eval_batch": 0}])
def test_budgets_without_room_are_refused(source, wrong):
    with pytest.raises(DataError, match="eval_views at least 2 views"):
        PairDataModule(test={"mini": source}, **wrong)
