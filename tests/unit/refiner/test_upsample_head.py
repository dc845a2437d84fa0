"""Up-sampling heads: bilinear before training, layers as published, files that bring them back, what is refused."""

import pytest
import torch
import torch.nn.functional as F

from geoalign import publish
from geoalign.refiner import Aggregation, Blend, Identity, UpsampleHead

CHANNELS, GRID, FRAME_PX = (6, 10), 6, 60


def some_maps(views=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(views, c, side, side, generator=generator) for c, side in zip(CHANNELS, (6, 3), strict=True)
    )


def head(**options):
    torch.manual_seed(0)
    return UpsampleHead(Aggregation(CHANNELS, GRID, 32, 32, dropout=0.0), **options).eval()


def stirred(refiner):
    """The refiner after a step that left nothing at zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in refiner.parameters():
            value += 0.1 * torch.randn(value.shape, generator=generator)
    return refiner


@pytest.mark.parametrize("block", ["marco", "simplematch"])
@pytest.mark.parametrize("finer", [2, 4])
def test_before_training_it_is_bilinear_up_sampling(block, finer):
    fine, maps = head(finer=finer, block=block), some_maps()
    expected = F.interpolate(fine.within(maps), scale_factor=finer, mode="bilinear", align_corners=False)
    torch.testing.assert_close(fine(maps), F.normalize(expected, dim=1))
    assert fine(maps).is_contiguous(memory_format=torch.channels_last)
    assert (fine.grid, fine.finer, fine.channels) == (GRID * finer, finer, CHANNELS)


@pytest.mark.parametrize("block", ["marco", "simplematch"])
@pytest.mark.parametrize("skip", [True, False])
def test_everything_in_it_is_trained(block, skip):
    fine = stirred(head(block=block, skip=skip)).train()
    fine(some_maps())[:, 0].square().sum().backward()
    for name in fine.trained():
        assert name == "within.logit_scale" or fine.get_parameter(name).grad.any(), name


@pytest.mark.parametrize("block", ["marco", "simplematch"])
def test_the_first_step_reaches_its_last_layer(block):
    fine = head(block=block)
    fine(some_maps())[:, 0].square().sum().backward()
    assert fine.layers[-1].weight.grad.any()


def transposed(x, layer):
    """A transposed 2×2 of stride 2, cell by cell."""
    u, _, h, w = x.shape
    out = torch.empty(u, layer.out_channels, 2 * h, 2 * w)
    for y in range(2 * h):
        for z in range(2 * w):
            out[:, :, y, z] = x[:, :, y // 2, z // 2] @ layer.weight[:, :, y % 2, z % 2] + layer.bias
    return out


def test_marcos_block_is_its_own_formula():
    fine = stirred(head(finer=2, skip=False, normalise=False))
    x = fine.coarse(some_maps())
    up, _, depthwise, norm = fine.layers
    y, padded = F.gelu(transposed(x, up)), None
    padded, expected = F.pad(y, (1, 1, 1, 1)), torch.zeros_like(y)
    for i in range(3):
        for j in range(3):
            expected += (
                depthwise.weight[:, 0, i, j].view(-1, 1, 1) * padded[:, :, i : i + y.shape[2], j : j + y.shape[3]]
            )
    mean, variance = expected.mean(1, keepdim=True), expected.var(1, keepdim=True, unbiased=False)
    expected = (expected - mean) / (variance + 1e-6).sqrt() * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
    torch.testing.assert_close(fine(some_maps()), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_simplematchs_block_is_its_own_formula(norm):
    fine = stirred(head(finer=4, block="simplematch", skip=False, normalise=False, norm=norm))
    x = fine.coarse(some_maps())
    doubled, first, between, second, linear = fine.layers

    def residuals(x, block):
        for convolution, normed, _ in block.steps:
            x = x + F.relu(normed(F.conv2d(x, convolution.weight, padding=1)))
        return x

    up = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    x = residuals(up + transposed(x, doubled.transposed), first)
    x = residuals(F.interpolate(x, size=(24, 24), mode="bilinear", align_corners=False), second)
    assert between.factor == 2
    expected = torch.einsum("oc,uchw->uohw", linear.weight[:, :, 0, 0], x) + linear.bias.view(-1, 1, 1)
    torch.testing.assert_close(fine(some_maps()), expected, rtol=1e-4, atol=1e-5)


def test_a_bank_of_dot_products_says_so():
    raw, maps = stirred(head(normalise=False)), some_maps()
    bank, at = raw.bank(maps, FRAME_PX), torch.tensor([[10.0, 20.0], [31.0, 7.5]])
    assert (bank.unit, bank.finer, bank.grid) == (False, 4, (24, 24))
    points, similarity = bank.read(torch.tensor([0, 1]), at, torch.tensor([1, 0]))
    assert (points.norm(dim=1) > 1.5).all()
    torch.testing.assert_close(similarity, torch.einsum("kc,kchw->khw", points, raw(maps)[[1, 0]]))
    torch.testing.assert_close(bank.cells(0).norm(dim=0), torch.ones(GRID, GRID))


def test_a_view_does_not_depend_on_the_others():
    fine, maps = stirred(head(block="simplematch")).train(), some_maps(3)
    torch.testing.assert_close(fine(maps)[:1], fine(tuple(m[:1] for m in maps)))


@pytest.mark.parametrize("block", ["marco", "simplematch"])
@pytest.mark.parametrize("normalise", [True, False])
def test_made_when_asked_it_answers_as_held_with_its_gradients(block, normalise):
    view, trg = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 1, 2])
    xy, weights = torch.rand(4, 2) * FRAME_PX, (torch.randn(4, 32), torch.randn(3, 24, 24))
    found = []
    for memory in ("views", "rows"):
        fine, maps = stirred(head(block=block, normalise=normalise, memory=memory)), some_maps(3)
        reads = fine.bank(maps, FRAME_PX).read(view, xy, trg)
        sum((out * w).sum() for out, w in zip(reads, weights, strict=True)).backward()
        grads = {name: p.grad for name, p in fine.named_parameters() if p.grad is not None}
        found.append((reads, fine.bank(maps, FRAME_PX).cells(1), grads))
    for mine, its in zip(*found, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-3, atol=1e-3)


def test_another_width_keeps_cosines_nearly():
    torch.manual_seed(0)
    wide = Identity((64,), GRID)
    narrow = UpsampleHead(wide, width=32)
    maps = (torch.randn(1, 64, GRID, GRID),)
    plain, fine = UpsampleHead(wide).bank(maps, FRAME_PX), narrow.bank(maps, FRAME_PX)
    assert fine.descriptors.shape[1] == narrow.width == 32
    at = torch.zeros(1, dtype=torch.long), torch.tensor([[25.0, 25.0]]), torch.zeros(1, dtype=torch.long)
    both = torch.stack([bank.read(*at).similarity.flatten() for bank in (plain, fine)])
    assert torch.corrcoef(both)[0, 1] > 0.5
    assert UpsampleHead(Blend(Aggregation(CHANNELS, GRID, 32, 32))).width == 32 + sum(CHANNELS)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"finer": 2, "block": "simplematch", "norm": "batch", "dropout": 0.3},
        {"width": 16, "normalise": False, "memory": "rows"},
    ],
)
def test_a_published_head_comes_back(tmp_path, options):
    fine = stirred(head(**options))
    publish.save(fine, tmp_path / "shared", backbone="a tiny one")
    back = publish.load(tmp_path / "shared")
    assert back.recipe() == fine.recipe()
    torch.testing.assert_close(back(some_maps()), fine(some_maps()))


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"finer": 3}, "2, 4, 8, … along a side, got head.finer=3; set head.finer=4, or head.block=simplematch"),
        ({"finer": 1}, "2 or more, got 1; set head=none"),
        ({"block": "pixelshuffle"}, "marco or simplematch, got 'pixelshuffle'"),
        ({"norm": "layer"}, "group or batch, got 'layer'"),
        ({"width": 0}, "above 0, got 0"),
        ({"dropout": 1.0}, "below 1, got 1.0"),
        ({"memory": "disk"}, "views, or rows without batch statistics; got 'disk'"),
        ({"memory": "rows", "block": "simplematch", "norm": "batch"}, "set head.memory=views or head.norm=group"),
    ],
)
def test_what_cannot_be_made_is_refused(options, told):
    with pytest.raises(ValueError, match=told):
        head(**options)


def test_a_head_on_a_head_is_refused():
    with pytest.raises(ValueError, match="without one, got a grid 4 times finer"):
        UpsampleHead(head())
