"""Every choice of the group makes a loss; a schedule longer than training is refused before anything is computed."""

import pytest

from geoalign.build import build, most_steps
from geoalign.data.datamodule import PairDataModule
from geoalign.losses import Cosine, WeightedSum
from geoalign.options.entry import composed
from geoalign.options.make import make
from geoalign.options.yamls import choices


@pytest.mark.parametrize("name", sorted(choices("loss")))
def test_every_choice_makes_a_loss(name):
    loss = make(composed("train", [f"loss={name}"]).loss)
    assert isinstance(loss, WeightedSum)
    assert loss.kinds["plain"] == 1.0


def test_the_papers_settings():
    gaussian = {
        name: make(composed("train", [f"loss={name}"]).loss).terms["gaussian"]
        for name in ("visual_ai", "imcorr", "marco")
    }
    released = gaussian["visual_ai"]
    assert (released.form, released.side, released.sigma, released.temperature) == ("lattice", 7, 1.5, 0.03)
    assert not released.renormalise
    assert gaussian["imcorr"].sigma == Cosine(3.0, 1.0)
    marco = gaussian["marco"]
    assert (marco.side, marco.temperature, marco.floor, marco.sigma.at(6500, None)) == (15, 10.0, 1e-6, 2.25)


def test_a_schedule_longer_than_training_is_refused_before_anything_is_computed(monkeypatch):
    sigma = "loss.gaussian.sigma={_target_:geoalign.losses.Cosine,start:3,end:1,until:99999,unit:steps}"
    cfg = composed("train", ["loss=gaussian", sigma])
    data = PairDataModule()
    data.sampler = range(10)  # as many batches an epoch
    monkeypatch.setattr("geoalign.build.make_data", lambda *_: data)
    with pytest.raises(ValueError, match=r"loss.gaussian.sigma arrives at step 99999, training has 40 steps"):
        build(cfg, ["train"])
    cfg.trainer.accumulate_grad_batches = 3
    assert most_steps(cfg.trainer, data) == 16
    cfg.trainer.max_epochs = -1
    assert most_steps(cfg.trainer, data) is None
