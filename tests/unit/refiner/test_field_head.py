"""The continuous field beside a slow transcription of the paper's equations, point by point; and its memory."""

import math

import pytest
import torch
import torch.nn.functional as F

from geoalign import publish
from geoalign.bank import PlainBank
from geoalign.refiner import Aggregation, FieldHead, Identity

CHANNELS, GRID, FRAME_PX, WIDTH = (8,), 4, 40.0, 8


def some_maps(views=3, seed=0):
    return (torch.randn(views, WIDTH, GRID, GRID, generator=torch.Generator().manual_seed(seed)),)


def head(finer=4, seed=0, **options):
    torch.manual_seed(seed)
    return FieldHead(Identity(CHANNELS, GRID), finer, **options)


def stirred(refiner):
    """The refiner after a step that left nothing at zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in refiner.parameters():
            value += 0.3 * torch.randn(value.shape, generator=generator)
    return refiner


def slow_field(decoder, coarse, x, y):
    """Eq. 5-8 at one point in cells, as the paper writes them; ``coarse`` is ``(c h w)``."""
    c, h, w = coarse.shape
    left, top = math.floor(x), math.floor(y)
    ensemble, raw = torch.zeros(c), torch.zeros(c)
    for vy in (top, top + 1):
        for vx in (left, left + 1):
            # the area of the rectangle between the point and the diagonally opposite grid point
            area = abs(x - (2 * left + 1 - vx)) * abs(y - (2 * top + 1 - vy))
            z = coarse[:, min(max(vy, 0), h - 1), min(max(vx, 0), w - 1)]
            projected = decoder.project.weight @ z + decoder.project.bias
            first, _, last = decoder.film
            film = last.weight @ (first.weight @ torch.tensor([x - vx, y - vy]) + first.bias).clamp(min=0) + last.bias
            gamma, beta = film[:c], film[c:]
            hidden = ((1 + gamma) * projected + beta).clamp(min=0)
            hidden = (decoder.first.weight @ hidden + decoder.first.bias).clamp(min=0)
            ensemble = ensemble + area * (decoder.second.weight @ hidden + decoder.second.bias)
            raw = raw + area * z
    return decoder.out.weight @ (ensemble + raw) + decoder.out.bias


def slow_similarity(decoder, coarse, descriptor):
    """Cosine with the field at the centre of every fine cell."""
    h, w, f = *coarse.shape[1:], decoder.finer
    rows = [
        torch.stack(
            [
                F.cosine_similarity(
                    descriptor, slow_field(decoder, coarse, (x + 0.5) / f - 0.5, (y + 0.5) / f - 0.5), 0
                )
                for x in range(w * f)
            ]
        )
        for y in range(h * f)
    ]
    return torch.stack(rows)


POINTS = torch.tensor([[3.0, 37.0], [25.0, 25.0], [19.3, 8.1], [40.0, 0.0], [-4.0, 60.0]])


def gradients(outputs, weights, refiner, maps):
    total = sum((out * weight).sum() for out, weight in zip(outputs, weights, strict=True))
    wanted = [maps, *refiner.parameters()]
    return torch.autograd.grad(total, wanted)


@pytest.mark.parametrize("finer", [2, 3])
def test_points_and_similarities_are_the_papers_formula_with_its_gradients(finer):
    refiner, weights = stirred(head(finer)), (torch.randn(5, WIDTH), torch.randn(2, GRID * finer, GRID * finer))
    maps = some_maps()[0].requires_grad_()
    view, trg = torch.tensor([2, 0, 1, 0, 2]), torch.tensor([1, 0])
    reads = refiner.bank((maps,), FRAME_PX).read(view, POINTS, trg)
    fast = gradients(reads, weights, refiner, maps)
    coarse = F.normalize(maps, dim=1) * WIDTH**0.5
    cells = (POINTS.clamp(0, 40) / 10 - 0.5).tolist()
    points = [slow_field(refiner.decoder, coarse[v], x, y) for v, (x, y) in zip(view.tolist(), cells, strict=True)]
    points = F.normalize(torch.stack(points), dim=1)
    similarity = [slow_similarity(refiner.decoder, coarse[t], points[k]) for k, t in enumerate(trg.tolist())]
    slow = gradients((points, torch.stack(similarity)), weights, refiner, maps)
    torch.testing.assert_close(reads.points, points, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(reads.similarity, torch.stack(similarity), rtol=1e-4, atol=1e-5)
    for mine, its in zip(fast, slow, strict=True):
        torch.testing.assert_close(mine, its, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("around", [0, 1, 9])
def test_around_the_peak_it_is_the_whole_grids_and_elsewhere_between_the_coarse_ones(around):
    refiner, maps = stirred(head(4, around=around)), some_maps()
    trg = torch.tensor([1, 1, 0])
    bank = refiner.bank(maps, FRAME_PX)
    points, got = bank.read(trg.flip(0), POINTS[:3], trg)
    rough = torch.einsum("kc,kchw->khw", points, torch.stack([bank.cells(t) for t in trg.tolist()]))
    expected = F.interpolate(rough[:, None], scale_factor=4, mode="bilinear", align_corners=False)[:, 0]
    refiner.decoder.around = None
    whole, size = bank.similarity(points, trg), min(2 * around + 1, GRID)
    for k, peak in enumerate(rough.flatten(1).argmax(1).tolist()):
        y, x = (min(max(at - around, 0), GRID - size) * 4 for at in divmod(peak, GRID))
        expected[k, y : y + 4 * size, x : x + 4 * size] = whole[k, y : y + 4 * size, x : x + 4 * size]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert got.isfinite().all()


def test_a_window_is_the_same_whatever_else_is_asked():
    refiner, maps = stirred(head(2, around=1)), some_maps()
    bank, at = refiner.bank(maps, FRAME_PX), torch.tensor([1, 1, 1])
    descriptors = bank.at(torch.tensor([0, 0, 2]), POINTS[:3])
    together = bank.similarity(descriptors, at)
    alone = [bank.similarity(descriptors[i : i + 1], at[:1])[0] for i in range(3)]
    torch.testing.assert_close(together, torch.stack(alone))


def test_gradients_pass_through_the_window_and_through_what_lies_around_it():
    for k, where in ((0, "window"), (1, "elsewhere")):
        refiner, maps = stirred(head(2, around=0)), some_maps()[0].requires_grad_()
        similarity = (
            refiner.bank((maps,), FRAME_PX).read(torch.tensor([0]), POINTS[:1], torch.tensor([1])).similarity[0]
        )
        y, x = divmod(int(similarity.argmax()), similarity.shape[1])
        cell = similarity[y, x] if k == 0 else similarity[(y + 4) % 8, (x + 4) % 8]
        cell.backward()
        assert maps.grad[1].any(), where
        assert all(p.grad is not None and p.grad.any() for p in refiner.decoder.parameters()), where


def test_before_training_it_is_bilinear_interpolation():
    refiner, maps = head(4), some_maps()
    assert (refiner.grid, refiner.finer) == (16, 4)
    plain = PlainBank(refiner.within(maps), FRAME_PX)
    bank, view = refiner.bank(maps, FRAME_PX), torch.tensor([0, 1, 2, 0, 1])
    torch.testing.assert_close(bank.at(view, POINTS), plain.at(view, POINTS))
    fine = F.interpolate(refiner.within(maps), scale_factor=4, mode="bilinear", align_corners=False)
    torch.testing.assert_close(refiner(maps), F.normalize(fine, dim=1))
    torch.testing.assert_close(bank.cells(1), plain.cells(1))
    assert not torch.allclose(head(4, start="random")(maps), refiner(maps), atol=1e-2)


def test_everywhere_is_the_field_at_the_fine_cells_centres():
    refiner, maps = stirred(head(3)), some_maps(1)
    bank, fine = refiner.bank(maps, FRAME_PX), refiner(maps)[0]
    side = (torch.arange(12) + 0.5) * bank.stride
    centres = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).reshape(-1, 2)
    at = bank.at(torch.zeros(len(centres), dtype=torch.long), centres)
    torch.testing.assert_close(at.T.reshape(WIDTH, 12, 12), fine, rtol=1e-4, atol=1e-5)
    inside = bank.at(torch.zeros(len(centres), dtype=torch.long), centres + 0.4 * bank.stride, "floor")
    torch.testing.assert_close(inside, at, rtol=1e-4, atol=1e-5)


def test_the_first_step_reaches_the_layer_that_starts_at_zero():
    refiner = head(2)
    refiner.bank(some_maps(), FRAME_PX).read(torch.tensor([0]), POINTS[:1], torch.tensor([1])).similarity[
        0, 0, 0
    ].backward()
    assert refiner.decoder.second.weight.grad.any()


def test_a_batch_without_points_stays_in_the_graph():
    refiner, none = head(2), torch.zeros(0, dtype=torch.long)
    reads = refiner.bank(some_maps(), FRAME_PX).read(none, torch.zeros(0, 2), none)
    assert reads.similarity.shape == (0, 8, 8)
    reads.points.sum().backward()
    assert all(p.grad is not None for p in refiner.decoder.parameters())


def saved_bytes(function):
    """Bytes of the tensors that autograd keeps until the backward pass, each once."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = function()
    assert out.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("around", [None, 2])
def test_memory_grows_with_keypoint_rows_not_with_the_fine_cells_of_views(around):
    torch.manual_seed(0)
    refiner = FieldHead(Identity((64,), 12), 4, around=around)
    fine_map = 64 * 48 * 48 * 4

    def kept(views):
        bank = refiner.bank((torch.randn(views, 64, 12, 12),), FRAME_PX)
        at = torch.arange(views) % 2
        return saved_bytes(lambda: bank.read(at, torch.rand(views, 2) * 40, at.sort().values).similarity)

    few, many = kept(4), kept(12)
    row = 48 * 48 * 4 * (6 if around is not None else 2)  # a similarity map; around a peak also where its window lies
    assert many - few < 8 * row + 8 * 64 * 12 * 12 * 4
    assert many < 3 * fine_map + 12 * row


@pytest.mark.parametrize("options", [{}, {"around": 2, "start": "random", "hidden": 16}])
def test_a_published_field_comes_back(tmp_path, options):
    refiner = stirred(FieldHead(Aggregation((6, 10), 6, 32, 32), 2, **options)).eval()
    publish.save(refiner, tmp_path / "shared", backbone="a tiny one")
    back, maps = publish.load(tmp_path / "shared"), (torch.randn(1, 6, 6, 6), torch.randn(1, 10, 3, 3))
    assert back.recipe() == refiner.recipe()
    torch.testing.assert_close(back(maps), refiner(maps))


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"finer": 1}, "2 or more, got 1; set head=none"),
        ({"around": -1}, "0 or more, or null for the whole grid, got -1"),
        ({"start": "zero"}, "bilinear or random, got 'zero'"),
        ({"hidden": 0}, "above 0, got 0"),
    ],
)
def test_what_cannot_be_made_is_refused(options, told):
    with pytest.raises(ValueError, match=told):
        head(**options)
    with pytest.raises(ValueError, match="bilinear or floor, got 'nearest'"):
        head().bank(some_maps(), FRAME_PX).at(torch.tensor([0]), POINTS[:1], "nearest")
