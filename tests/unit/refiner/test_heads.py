"""Every head under every method of prediction, loss and confidence: more cells, the same answers."""

import sys

import pytest
import torch
import torch.nn.functional as F
from helpers.cut import frames

from geoalign.backbone import Lite
from geoalign.bank import DecodedBank
from geoalign.geometry import FLIP, UPRIGHT, flip_points
from geoalign.losses import DenseLoss, Moment, SparseLoss, WeightedSum
from geoalign.matching import Aligned, Confidence, Matcher, Plain, Twice, transfer
from geoalign.matching.transfer import at_once
from geoalign.refiner import FieldHead, Identity, Tail, UpsampleHead
from geoalign.refiner.tail import start
from geoalign.types import KINDS, Rows

GRID, FRAME_PX, SIDE_PX = 8, 80, 10.0
MATCHER = Matcher(readout="argmax", frame_px=FRAME_PX)
HEADS = {
    "upsample-rows": lambda refiner: UpsampleHead(refiner, 2, memory="rows"),
    "field": lambda refiner: FieldHead(refiner, 4),
    "field-around": lambda refiner: FieldHead(refiner, 3, around=1),
    "upsample": lambda refiner: UpsampleHead(refiner, 4),
    "upsample-dot": lambda refiner: UpsampleHead(refiner, 2, "simplematch", normalise=False),
}


def distinct_maps(views=2):
    """Every cell has a direction of its own, and is found again in every view."""
    basis = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(0))).Q
    return (basis.T.reshape(1, 64, GRID, GRID).repeat(views, 1, 1, 1),)


def mirrored_maps():
    """A view of something else, its mirror image as the target shows it, and the target."""
    other = torch.randn(1, 64, GRID, GRID, generator=torch.Generator().manual_seed(5))
    return (torch.cat([other, *distinct_maps()]),)


@pytest.fixture(params=sorted(HEADS))
def head(request):
    torch.manual_seed(0)
    return HEADS[request.param](Identity((64,), GRID))


def points():
    side = torch.arange(3) * 22.0 + 15
    return torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).reshape(1, -1, 2)


def rows_of(xy, poses, masks=None, look=None):
    seen, last = torch.ones(xy.shape[:2], dtype=torch.bool), len(poses)
    return Rows(
        src=torch.tensor([0]), trg=torch.tensor([last]), src_poses=torch.arange(last)[None], src_xy_px=xy,
        src_visible=seen, wanted=seen, partner=torch.arange(xy.shape[1])[None], masks=masks,
        extent_px=torch.tensor([[0.0, 0, FRAME_PX, FRAME_PX]]).repeat(last + 1, 1), look=look,
    )  # fmt: skip


def test_a_point_is_found_where_it_is_to_half_a_fine_cell(head):
    bank, xy = head.bank(distinct_maps(), FRAME_PX), points()
    found = Plain()(bank, rows_of(xy, [UPRIGHT]), MATCHER).matches.xy_px
    assert (found - xy).abs().max() <= bank.stride * 0.75
    assert (bank.stride, head.grid) == (SIDE_PX / head.finer, bank.grid[0])


def test_a_window_covers_the_same_part_of_the_picture(head):
    """What a window of 1 cell of the features cannot see does not move the answer."""
    bank, xy = head.bank(distinct_maps(), FRAME_PX), points()
    window = Matcher(radius=1, temperature=0.05 if bank.unit else 3.0, frame_px=FRAME_PX)
    found = transfer(bank, torch.tensor([0]), torch.tensor([1]), xy, window).xy_px
    assert (found - xy).abs().max() <= SIDE_PX / 2


@pytest.mark.parametrize("distance", ["masked", "mutual", "constellation"])
def test_the_pose_that_fits_is_chosen(head, distance):
    method, xy = Aligned(poses=[UPRIGHT, FLIP], distance=distance, masks="dataset"), points()
    bank = head.bank(mirrored_maps(), FRAME_PX)
    masks = torch.ones(3, GRID, GRID, dtype=torch.bool)
    prediction = method(bank, rows_of(xy, method.poses, masks if distance == "masked" else None), MATCHER)
    assert prediction.pose.tolist() == [1]
    assert (prediction.matches.xy_px - flip_points(xy, FRAME_PX)).abs().max() <= bank.stride * 0.75


def test_distances_between_views_are_those_of_the_features(head):
    """A finer grid would cost with its square of a square, and no pose would be told better."""
    bank = head.bank(distinct_maps(), FRAME_PX)
    cells = bank.cells(1)
    assert cells.shape == (64, GRID, GRID)
    cosine = (F.normalize(cells, dim=0) * distinct_maps()[0][1]).sum(0)
    assert cosine.mean() > 0.5


def test_a_second_look_reads_it(head):
    whole = torch.tensor([[0.0, 0.0, FRAME_PX]])
    look = {"src_crop": whole, "trg_crop": whole, "first_xy_px": points(), "first_score": torch.ones(1, 9)}
    bank = head.bank(distinct_maps(), FRAME_PX)
    found = Twice()(bank, rows_of(points(), [UPRIGHT], look=look), MATCHER).matches.xy_px
    assert (found - points()).abs().max() <= bank.stride * 0.75


def test_confidence_is_high_where_all_is_found_and_low_where_nothing_is(head):
    if not head.bank(distinct_maps(), FRAME_PX).unit:
        pytest.skip("fitted on cosines")
    rows, sure = rows_of(points(), [UPRIGHT]), []
    for maps in (distinct_maps(), (torch.randn(2, 64, GRID, GRID, generator=torch.Generator().manual_seed(3)),)):
        bank = head.bank(maps, FRAME_PX)
        prediction = Plain()(bank, rows, MATCHER)
        sure.append(Confidence().of(bank, rows, prediction, (UPRIGHT,), MATCHER).mean())
    assert sure[0] > sure[1] + 0.2


def test_what_is_hidden_is_no_place_to_be_found_in(head):
    visible = torch.zeros(2, GRID, GRID, dtype=torch.bool)
    visible[:, 2:6, 1:7] = True
    bank = head.bank(distinct_maps(), FRAME_PX).hide(visible)
    similarity = bank.read(torch.tensor([0]), points()[0, 4:5], torch.tensor([1])).similarity[0]
    shown = visible[0].repeat_interleave(head.finer, 0).repeat_interleave(head.finer, 1)
    assert not similarity[~shown].any()
    assert similarity[shown].any()


def test_joined_banks_answer_alike(head):
    maps = mirrored_maps()
    one = head.bank(maps, FRAME_PX)
    parts = [head.bank((maps[0][i : i + 1],), FRAME_PX) for i in range(3)]
    joined = parts[0].join(parts[1:])
    asked = torch.tensor([0, 1]), points()[0, :2], torch.tensor([1, 2])
    assert (len(joined), joined.finer, joined.unit) == (3, one.finer, one.unit)
    for mine, its in zip(joined.read(*asked), one.read(*asked), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5)


def test_points_in_parts_take_no_more_memory_and_are_the_same(head, monkeypatch):
    bank, xy = head.bank(distinct_maps(), FRAME_PX), points()
    soft = Matcher(readout="soft", temperature=0.1 if bank.unit else 6.0, frame_px=FRAME_PX)  # no ties
    at = torch.tensor([0]), torch.tensor([1]), xy, soft
    with torch.no_grad():
        whole = transfer(bank, *at)
        assert at_once(bank) == 1024 // head.finer**2
        monkeypatch.setattr(sys.modules["geoalign.matching.transfer"], "POINTS", 2 * head.finer**2)
        parts = transfer(bank, *at)
    torch.testing.assert_close(whole, parts)


def a_batch():
    xy, seen = points().repeat(2, 1, 1), torch.ones(2, 9, dtype=torch.bool)
    return {
        "src": torch.tensor([0, 1]), "trg": torch.tensor([1, 0]), "src_xy_px": xy, "trg_xy_px": xy + 3.0,
        "visible": seen, "kind": torch.zeros(2, dtype=torch.long), "count": torch.ones(2),
        "noise": torch.zeros_like(xy), "size_px": torch.full((2,), 50.0),
    }  # fmt: skip


def test_losses_reach_all_of_it_and_keep_their_size(head):
    maps = (torch.randn(2, 64, GRID, GRID, generator=torch.Generator().manual_seed(0)),)
    temperature = 0.02 if head.bank(maps).unit else 1.0
    matcher = Matcher(radius=0, temperature=temperature, frame_px=FRAME_PX)
    loss = WeightedSum({KINDS[0]: 1.0}, sparse=SparseLoss(), dense=DenseLoss(matcher))
    scale = Moment(torch.tensor(1.0 if head.bank(maps).unit else -3.0))
    total = loss(head.bank(maps, FRAME_PX), a_batch(), scale)
    coarse = loss(head.within.bank(maps, FRAME_PX), a_batch(), scale)
    assert 0.3 < total.parts["dense_plain"] / coarse.parts["dense_plain"] < 3  # in cells of the features
    total.mean.backward()
    assert any(p.grad is not None and p.grad.any() for p in head.parameters())


def test_half_the_precision_is_for_layers_alone(head):
    """Under autocast layers run in bfloat16; similarities are those of their descriptors in float32."""
    maps, at = distinct_maps(), (torch.tensor([0]), points()[0, 4:5], torch.tensor([1]))
    with torch.autocast("cpu", torch.bfloat16):
        reads = head.bank(maps, FRAME_PX).read(*at)
        reads.similarity.square().sum().backward()
    exact = head.bank(maps, FRAME_PX).read(*at)
    assert reads.similarity.dtype == torch.float32
    size = exact.similarity.abs().max()
    assert (reads.similarity - exact.similarity).abs().max() < 0.05 * size
    assert all(p.grad.isfinite().all() for p in head.parameters() if p.grad is not None)


def test_without_a_gradient_answers_are_the_same_and_a_view_is_decoded_once(head, monkeypatch):
    bank, trg = head.bank(distinct_maps(), FRAME_PX), torch.tensor([0, 1, 1, 1])
    descriptors = bank.at(torch.zeros(4, dtype=torch.long), points()[0, :4]).detach()
    with_gradient, decoded = bank.similarity(descriptors, trg), []
    with torch.no_grad():
        if isinstance(bank, DecodedBank) and bank.decoder.whole:
            everywhere = bank.decoder.everywhere
            monkeypatch.setattr(bank.decoder, "everywhere", lambda one: decoded.append(1) or everywhere(one))
        parts = [bank.similarity(descriptors[i : i + 1], trg[i : i + 1]) for i in range(4)]
        assert len(decoded) in (0, 2)
        again = bank.hide(torch.zeros(2, GRID, GRID, dtype=torch.bool)).similarity(descriptors, trg)
    torch.testing.assert_close(torch.cat(parts), with_gradient, rtol=1e-4, atol=1e-4)
    assert not again.any()


def test_a_head_stands_on_a_tail():
    backbone = Lite([2, 4], 64, cut=3)
    channels, groups = backbone.whole
    tail = Tail(Identity(channels, backbone.grid, groups), backbone.rest.network)
    start(tail, backbone.rest)
    head = FieldHead(tail, 2, around=1)
    maps = backbone(frames(backbone))
    head.bank(maps, 64).read(
        torch.tensor([0]), torch.tensor([[20.0, 30.0]]), torch.tensor([1])
    ).similarity.sum().backward()
    assert {name.split(".")[0] for name in head.trained()} == {"within", "decoder"}
    assert any(p.grad is not None and p.grad.any() for p in tail.chain.parameters())
    assert all(name.startswith("within.chain.") for name in head.rates())
    assert head.rates()
