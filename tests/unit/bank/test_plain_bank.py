"""Descriptors at points and their similarities: between cells, at borders, without points, with gradients."""

import pytest
import torch
import torch.nn.functional as F

from geoalign.bank import PlainBank, Queries

STRIDE, FRAME_PX = 10.0, 50


def a_bank(views=3, channels=8, side=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(views, channels, side, side, generator=generator, dtype=torch.float32), dim=1)


def centre(x, y):
    """Pixels of a cell's centre."""
    return [(x + 0.5) * STRIDE, (y + 0.5) * STRIDE]


@pytest.mark.parametrize("source", ["bilinear", "floor"])
def test_a_cells_centre_reads_the_cell(source):
    bank = a_bank()
    got = PlainBank(bank, FRAME_PX).at(torch.tensor([0, 2]), torch.tensor([centre(1, 3), centre(4, 0)]), source)
    torch.testing.assert_close(got, torch.stack([bank[0, :, 3, 1], bank[2, :, 0, 4]]))


def test_between_cells_is_between_descriptors():
    bank = a_bank()
    quarter = torch.tensor([[centre(1, 3)[0] + STRIDE / 4, centre(1, 3)[1]]])
    got = PlainBank(bank, FRAME_PX).at(torch.tensor([1]), quarter)[0]
    torch.testing.assert_close(got, F.normalize(0.75 * bank[1, :, 3, 1] + 0.25 * bank[1, :, 3, 2], dim=0))
    floored = PlainBank(bank, FRAME_PX).at(torch.tensor([1]), quarter, "floor")[0]
    torch.testing.assert_close(floored, bank[1, :, 3, 1])


@pytest.mark.parametrize("source", ["bilinear", "floor"])
@pytest.mark.parametrize(
    ("xy", "cell"), [((-30, -1), (0, 0)), ((500, 25), (4, 2)), ((50, 50), (4, 4)), ((25, 60), (2, 4))]
)
def test_points_outside_read_the_border(source, xy, cell):
    bank = a_bank()
    got = PlainBank(bank, FRAME_PX).at(torch.tensor([0]), torch.tensor([xy], dtype=torch.float32), source)[0]
    torch.testing.assert_close(got, bank[0, :, cell[1], cell[0]])


def test_similarities_are_of_the_first_points_to_their_targets_in_any_order():
    bank, trg = a_bank(), torch.tensor([2, 0, 2, 1])
    reads = PlainBank(bank, FRAME_PX).read(torch.tensor([0, 1, 1, 2, 0]), torch.rand(5, 2) * 50, trg)
    assert reads.points.shape == (5, 8)
    torch.testing.assert_close(reads.similarity, torch.einsum("kc,kchw->khw", reads.points[:4], bank[trg]))


@pytest.mark.parametrize("trg", [[], [0]])
def test_no_points_no_answers(trg):
    none = torch.zeros(0, dtype=torch.long)
    reads = PlainBank(a_bank(), FRAME_PX).read(none, torch.zeros(0, 2), none)
    assert reads.points.shape == (0, 8)
    assert reads.similarity.shape == (0, 5, 5)


@pytest.mark.parametrize("source", ["bilinear", "floor"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_gradients_are_those_of_plain_autograd(source, channels_last):
    view, trg = torch.tensor([0, 1, 1, 0]), torch.tensor([1, 2, 1])  # view 2 is compared with, never read
    xy, weights = torch.rand(4, 2) * 50, (torch.randn(4, 8), torch.randn(3, 5, 5))
    base = a_bank().contiguous(memory_format=torch.channels_last) if channels_last else a_bank()
    bank = base.clone().requires_grad_()
    reads = PlainBank(bank, FRAME_PX).read(view, xy, trg, source)
    sum((out * w).sum() for out, w in zip(reads, weights, strict=True)).backward()

    plain = base.clone().requires_grad_()
    if source == "floor":
        cell = (xy / STRIDE).long()
        points = plain[view, :, cell[:, 1], cell[:, 0]]
    else:
        grid = (xy / 50 * 2 - 1).view(4, 1, 1, 2)
        found = F.grid_sample(plain[view], grid, padding_mode="border", align_corners=False)
        points = F.normalize(found.view(4, 8), dim=-1)
    similarity = torch.einsum("kc,kchw->khw", points[:3], plain[trg])
    ((points * weights[0]).sum() + (similarity * weights[1]).sum()).backward()
    torch.testing.assert_close(reads.points, points)
    torch.testing.assert_close(bank.grad, plain.grad, rtol=1e-4, atol=1e-5)


def test_views_that_nobody_asks_for_get_no_gradient():
    bank = a_bank().requires_grad_()
    reads = PlainBank(bank, FRAME_PX).read(torch.tensor([0]), torch.tensor([[5.0, 5.0]]), torch.tensor([1]))
    reads.similarity.sum().backward()
    assert bank.grad[0].any()
    assert bank.grad[1].any()
    assert not bank.grad[2].any()


@pytest.mark.unchecked
def test_a_wrong_source_is_told():
    with pytest.raises(ValueError, match="bilinear or floor"):
        PlainBank(a_bank(), FRAME_PX).read(torch.tensor([0]), torch.zeros(1, 2), torch.tensor([0]), "nearest")


def test_similarity_asked_apart_is_that_of_reading():
    bank, trg = PlainBank(a_bank(), FRAME_PX), torch.tensor([0, 0, 2])
    reads = bank.read(torch.tensor([1, 2, 1]), torch.rand(3, 2) * 50, trg)
    torch.testing.assert_close(bank.similarity(reads.points, trg), reads.similarity)


def test_what_is_hidden_has_no_similarity_and_the_rest_stays():
    bank, visible = PlainBank(a_bank(), FRAME_PX), torch.rand(3, 5, 5) < 0.5
    trg, descriptors = torch.tensor([0, 1, 2]), torch.randn(3, 8)
    shown, hidden = bank.similarity(descriptors, trg), bank.hide(visible).similarity(descriptors, trg)
    torch.testing.assert_close(hidden, shown * visible)


def test_joined_banks_are_one_after_the_other():
    first, second = PlainBank(a_bank(), FRAME_PX), PlainBank(a_bank(2, seed=1), FRAME_PX)
    joined = first.join([second])
    assert len(joined) == 5
    assert torch.equal(joined.cells(4), second.cells(1))


def test_queries_are_sorted_by_target_and_spread_back():
    wanted = torch.tensor([[True, False, True], [False, True, True], [True, False, False]])
    xy_px = torch.rand(3, 3, 2)
    queries = Queries.of(torch.tensor([3, 4, 5]), torch.tensor([2, 0, 2]), xy_px, wanted)
    assert queries.trg.tolist() == [0, 0, 2, 2, 2]
    assert queries.view.tolist() == [4, 4, 3, 3, 5]
    torch.testing.assert_close(queries.spread(queries.xy_px, wanted), xy_px * wanted[..., None])
    assert [len(part.row) for part in queries.split(2)] == [2, 2, 1]
