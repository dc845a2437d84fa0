"""Up-samplers of others: called with pictures, frozen, left out of files, refused where they do not fit."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.pixels import PixelUpsampler
from helpers.tiny import TinyBackbone
from PIL import Image
from torch import nn

from geoalign import publish
from geoalign.apps.matcher import ImageMatcher
from geoalign.matching import Matcher
from geoalign.parts import PartError
from geoalign.refiner import Aggregation, ExternalHead, Identity
from geoalign.refiner.base import CheckpointError
from geoalign.refiner.checkpoint import load_weights

CHANNELS, GRID, SIDE = (6, 10), 8, 32


def some_maps(views=2):
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(views, c, side, side, generator=generator) for c, side in zip(CHANNELS, (8, 4), strict=True)
    )


def some_frames(views=2):
    generator = torch.Generator().manual_seed(1)
    return {SIDE: torch.randint(0, 256, (views, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)}


def head(upsampler=None, refiner=None, **options):
    torch.manual_seed(0)
    refiner = refiner or Aggregation(CHANNELS, GRID, 32, 32, dropout=0.0)
    return ExternalHead(refiner, upsampler or PixelUpsampler(), 2, image_size=SIDE, **options).eval()


def test_it_is_called_with_pictures_as_they_are_trained_on():
    fine, maps, frames = head(), some_maps(), some_frames()
    bank = fine.bank_seeing(maps, frames, 80)
    assert (bank.grid, bank.finer, fine.needs_px, len(bank)) == ((16, 16), 2, (SIDE,), 2)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pictures = (frames[SIDE] / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(torch.cat(fine.upsampler.seen), pictures)
    expected = torch.cat(
        [fine.upsampler(p[None], d[None], (16, 16)) for p, d in zip(pictures, fine.within(maps), strict=True)]
    )
    torch.testing.assert_close(bank.descriptors, F.normalize(expected, dim=1))


def test_other_pixels_give_other_descriptors():
    fine, maps, frames = head(), some_maps(), some_frames()
    darker = {SIDE: frames[SIDE] // 3}
    assert not torch.allclose(fine(maps, frames), fine(maps, darker), atol=1e-3)


@pytest.mark.parametrize("train", [False, True])
def test_frozen_means_frozen_and_gradients_reach_the_refiner(train):
    fine = head(train_upsampler=train).train()
    fine(some_maps(), some_frames())[:, 0].square().sum().backward()
    assert fine.within.mixing_weights.grad.any()
    assert fine.upsampler.training == train
    assert (fine.upsampler.look.weight.grad is not None) == train
    assert any(name.startswith("upsampler.") for name in fine.trained()) == train
    assert any(name.startswith("upsampler.") for name in fine.state_dict()) == train


def test_files_leave_it_out_and_refuse_another(tmp_path):
    fine, maps, frames = head(), some_maps(), some_frames()
    publish.save(fine, tmp_path / "shared", backbone="a tiny one")
    again = ExternalHead(Aggregation(CHANNELS, GRID, 32, 32), PixelUpsampler(), 2, image_size=SIDE).eval()
    load_weights(again, tmp_path / "shared")
    torch.testing.assert_close(again(maps, frames), fine(maps, frames))
    with pytest.raises(CheckpointError, match="an up-sampler of hash"):
        load_weights(head(PixelUpsampler(seed=1)), tmp_path / "shared")
    with pytest.raises(PartError, match=r"PixelUpsampler'.* is not called"):
        publish.load(tmp_path / "shared")


def test_own_pictures_are_shown_to_it():
    backbone = TinyBackbone()
    matcher = ImageMatcher(backbone, head(refiner=Identity((6, 10), GRID)), Matcher(readout="argmax"))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))
    answer = matcher.match(picture, picture, [[20.0, 20.0], [40.0, 30.0]])
    assert np.isfinite(answer.xy_px).all()
    assert matcher.similarity(picture, picture, [20.0, 20.0]).shape == (16, 16)
    assert matcher.refiner.upsampler.seen[0].shape == (1, 3, SIDE, SIDE)


class Stubborn(nn.Module):
    """Gives what it likes."""

    def forward(self, picture, features, size):
        return features


def test_what_does_not_fit_is_told():
    maps, frames = some_maps(), some_frames()
    with pytest.raises(ValueError, match=r"Stubborn gave \(1, 32, 8, 8\) for head.finer=2, expected \(1, 32, 16, 16\)"):
        head(Stubborn())(maps, frames)
    with pytest.raises(ValueError, match=r"frames of 32 px, got frames of \[64\]"):
        head()(maps, {64: torch.zeros(2, 3, 64, 64, dtype=torch.uint8)})
    with pytest.raises(ValueError, match=r"frames of 32 px, got frames of \[\]"):
        head().bank(maps)
    with pytest.raises(ValueError, match=r"needs an up-sampler, got none; set head\.upsampler="):
        ExternalHead(Identity(CHANNELS, GRID))
    with pytest.raises(ValueError, match="image_size is above 0"):
        head(mean=[0.5])
