"""The paper's refiner: sizes, independence of views, resampling, dropout, mixing."""

import pytest
import torch

from geoalign.refiner import Aggregation
from geoalign.refiner.aggregation import Bottleneck, dropout, resample


def small(**options):
    torch.manual_seed(0)
    return Aggregation(**{"channels": (6, 10), "grid": 8, "width": 32, "hidden": 32, **options})


def some_maps(views=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(views, c, side, side, generator=generator) for c, side in ((6, 8), (10, 4)))


def test_the_papers_sizes():
    refiner = Aggregation((640, 1280, 1280, 768))
    assert sum(p.numel() for p in refiner.parameters()) == 5_150_214
    assert refiner.bottleneck_layers[3][0].shortcut is None  # as wide as the output
    assert refiner.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    assert not refiner.self_logit_scale.requires_grad


def test_descriptors_have_unit_length_and_lie_channels_last():
    bank = small().eval()(some_maps())
    assert bank.shape == (3, 32, 8, 8)
    torch.testing.assert_close(bank.norm(dim=1), torch.ones(3, 8, 8))
    assert bank.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("training", [True, False])
def test_a_view_does_not_know_its_neighbours(training):
    refiner, maps = small(dropout=0.0).train(training), some_maps()
    together = refiner(maps)
    for i in range(3):
        torch.testing.assert_close(refiner(tuple(m[i : i + 1] for m in maps))[0], together[i], rtol=1e-4, atol=1e-5)


def test_views_are_refined_in_parts_of_any_size(monkeypatch):
    refiner, maps = small().eval(), some_maps(5)
    one = refiner(maps)
    monkeypatch.setattr("geoalign.refiner.aggregation.VIEWS_ON_CPU", 3)
    torch.testing.assert_close(refiner(maps), one, rtol=1e-4, atol=1e-5)


def test_projecting_before_resampling_is_projecting_after_it():
    layer, x = Bottleneck(10, 32, 32), torch.randn(2, 10, 4, 4)
    torch.testing.assert_close(layer(x, 8), layer(resample(x, 8), 8), rtol=1e-4, atol=1e-5)


def test_in_place_steps_keep_the_gradient_right():
    layer, x = Bottleneck(4, 32, 32).double(), torch.randn(1, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: layer(x, 3), x, atol=1e-4)
    same_width = Bottleneck(32, 32, 32).double()
    y = torch.randn(1, 32, 2, 2, dtype=torch.float64, requires_grad=True)
    kept = y.detach().clone()
    assert torch.autograd.gradcheck(lambda y: same_width(y, 2), y, atol=1e-4)
    assert torch.equal(y.detach(), kept)  # frozen maps are shared: never written to


def test_the_mixture_follows_its_weights():
    refiner, maps = small().eval(), some_maps()
    refiner.mixing_weights.data = torch.tensor([0.0, -60.0])
    first = refiner.bottleneck_layers[0][0](maps[0], 8)
    torch.testing.assert_close(refiner.aggregate(maps), first)


def test_every_trained_parameter_gets_a_gradient():
    refiner = small().train()
    (refiner(some_maps()) * torch.randn(3, 32, 8, 8)).sum().backward()
    without = {name for name, p in refiner.named_parameters() if p.grad is None}
    assert without == {"logit_scale", "self_logit_scale"}  # the loss uses the one, nothing the other


@pytest.mark.parametrize("at", ["native", "grid"])
def test_dropout_acts_while_training_only(at):
    refiner, maps = small(dropout=0.5, dropout_at=at), some_maps()
    refiner.eval()
    assert torch.equal(refiner(maps), refiner(maps))
    refiner.train()
    assert not torch.allclose(refiner(maps), refiner(maps))
    torch.manual_seed(1)
    first = refiner(maps)
    torch.manual_seed(1)
    assert torch.equal(refiner(maps), first)


def test_dropout_on_the_grid_is_of_single_cells_and_native_of_patches():
    x = torch.ones(1, 50, 4, 4)
    torch.manual_seed(0)
    on_grid = dropout(resample(x, 8), 0.2)
    assert on_grid.unique().tolist() == pytest.approx([0.0, 1.25], rel=1e-4)
    assert len(resample(dropout(x, 0.2), 8).unique()) > 2


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(share):
    torch.manual_seed(0)
    x = torch.ones(401, 503, requires_grad=True)
    y = dropout(x, share)
    assert (y == 0).float().mean().item() == pytest.approx(share, abs=0.005)
    assert y.mean().item() == pytest.approx(1.0, abs=0.01)
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach())
    rows, columns = (y == 0).float().mean(1), (y == 0).float().mean(0)
    assert rows.std() < 0.03
    assert columns.std() < 0.04


def test_wrong_sizes_are_told_with_the_remedy():
    with pytest.raises(ValueError, match=r"set refiner.channels=\[6, 11\]"):
        small()((torch.zeros(1, 6, 8, 8), torch.zeros(1, 11, 4, 4)))
    with pytest.raises(ValueError, match="multiples of 32"):
        small(width=48)
    with pytest.raises(ValueError, match="multiples of 32"):
        small(hidden=20)
