"""Losses per row: what counts, what does not, and where the gradient goes."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from geoalign.bank import PlainBank
from geoalign.losses import DenseLoss, Moment, SparseLoss, WeightedSum
from geoalign.matching import Matcher
from geoalign.types import KINDS

FRAME, SIDE = 80, 8
MATCHER = Matcher(readout="soft", temperature=0.01, frame_px=FRAME)


def distinct(views=2, channels=70):
    """Views whose cells have orthogonal descriptors, the same in all views."""
    basis = torch.linalg.qr(torch.randn(channels, channels, generator=torch.Generator().manual_seed(0))).Q
    return basis[: SIDE * SIDE].T.reshape(1, channels, SIDE, SIDE).repeat(views, 1, 1, 1)


def noisy(views=3, channels=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(views, channels, SIDE, SIDE, generator=generator), dim=1)


def a_batch(rows=((0, 1),), slots=4, kinds=("plain",), seed=0):
    """Rows of random cell centres, all visible; source and target points agree."""
    generator = torch.Generator().manual_seed(seed)
    src, trg = zip(*rows, strict=True)
    xy = torch.stack([torch.randperm(SIDE * SIDE, generator=generator)[:slots] for _ in rows])
    xy = torch.stack([xy % SIDE, xy // SIDE], -1) * 10.0 + 5
    shape = (len(rows), slots)
    return {
        "src": torch.tensor(src),
        "trg": torch.tensor(trg),
        "src_xy_px": xy,
        "trg_xy_px": xy.clone(),
        "visible": torch.ones(shape, dtype=torch.bool),
        "kind": torch.tensor([KINDS.index(k) for k in kinds]),
        "count": torch.ones(len(rows)),
        "size_px": torch.full((len(rows),), 40.0),
        "noise": torch.randn(*shape, 2, generator=generator),
    }


SCALE = Moment(torch.tensor(math.log(1 / 0.07)))


def test_perfect_features_have_no_loss():
    batch, bank = a_batch(), distinct()
    assert DenseLoss(MATCHER).eval()(PlainBank(bank, FRAME), batch) < 1e-3
    assert SparseLoss()(PlainBank(bank, FRAME), batch, Moment(torch.tensor(5.0))) < 1e-3


def test_the_dense_loss_is_the_error_in_cells():
    batch = a_batch()
    batch["trg_xy_px"] = batch["trg_xy_px"] + torch.tensor([30.0, -40.0])
    torch.testing.assert_close(
        DenseLoss(MATCHER).eval()(PlainBank(distinct(), FRAME), batch), torch.tensor([5.0]), rtol=1e-3, atol=0
    )


def test_the_released_target_is_off_by_less_than_a_cell():
    batch = a_batch()
    batch["src_xy_px"] = batch["src_xy_px"] + 3.0  # floor takes the same cell, the target moves
    batch["trg_xy_px"] = batch["trg_xy_px"] + 3.0
    matcher = replace(MATCHER, source="floor")
    clean, released = (
        DenseLoss(matcher, target).eval()(PlainBank(distinct(), FRAME), batch) for target in ("cell", "released")
    )
    torch.testing.assert_close(clean, torch.tensor([0.3 * 2**0.5]), rtol=1e-3, atol=0)
    assert released < 1e-3


def test_label_noise_moves_the_truth_while_training_only():
    batch, loss = a_batch(), DenseLoss(MATCHER, label_noise=0.1)
    assert loss.eval()(PlainBank(distinct(), FRAME), batch) < 1e-3
    expected = (batch["noise"] * 0.1 * 4 / 2).norm(dim=-1).mean(-1)  # a size of 40 px is 4 cells
    torch.testing.assert_close(loss.train()(PlainBank(distinct(), FRAME), batch), expected, rtol=1e-3, atol=1e-3)


def test_matching_features_have_less_sparse_loss_than_swapped_ones():
    batch = a_batch()
    swapped = {**batch, "trg_xy_px": batch["trg_xy_px"].flip(1)}
    loss, bank = SparseLoss(), distinct()
    assert loss(PlainBank(bank, FRAME), batch, SCALE) < 0.01 < loss(PlainBank(bank, FRAME), swapped, SCALE)


def test_the_sparse_loss_is_symmetric():
    batch, bank = a_batch(), noisy()
    back = {
        **batch,
        "src": batch["trg"],
        "trg": batch["src"],
        "src_xy_px": batch["trg_xy_px"],
        "trg_xy_px": batch["src_xy_px"],
    }
    loss = SparseLoss()
    torch.testing.assert_close(loss(PlainBank(bank, FRAME), batch, SCALE), loss(PlainBank(bank, FRAME), back, SCALE))


@pytest.mark.parametrize("term", ["sparse", "dense"])
def test_invisible_slots_cannot_matter(term):
    batch = a_batch(((0, 1), (1, 2)), kinds=("plain", "plain"))
    batch["visible"][0, 2:] = False
    other = {**batch, "src_xy_px": batch["src_xy_px"].clone(), "trg_xy_px": batch["trg_xy_px"].clone()}
    other["src_xy_px"][0, 2:], other["trg_xy_px"][0, 3] = 0.0, 999.0
    values = []
    for rows in (batch, other):
        bank = noisy().requires_grad_()
        loss = (
            SparseLoss()(PlainBank(bank, FRAME), rows, SCALE)
            if term == "sparse"
            else DenseLoss(MATCHER)(PlainBank(bank, FRAME), rows)
        )
        loss.sum().backward()
        values.append((loss.detach(), bank.grad))
    torch.testing.assert_close(values[0], values[1])


@pytest.mark.parametrize("shown", [0, 1])
def test_rows_without_a_visible_keypoint_are_nothing_and_harm_nothing(shown):
    batch = a_batch(((0, 1), (1, 2)), kinds=("plain", "double"))
    batch["visible"][1 - shown] = False
    bank = noisy().requires_grad_()
    total = WeightedSum({"plain": 1.0, "double": 1.0}, sparse=SparseLoss(), dense=DenseLoss(MATCHER))(
        PlainBank(bank, FRAME), batch, SCALE
    )
    total.mean.backward()
    assert float(total.weight) == 1.0
    assert bank.grad.isfinite().all()
    assert bank.grad[2 - 2 * shown].eq(0).all()


def test_a_batch_of_which_nothing_is_visible_is_zero_with_a_gradient():
    batch, bank = a_batch(), noisy().requires_grad_()
    batch["visible"][:] = False
    total = WeightedSum({"plain": 1.0}, sparse=SparseLoss(), dense=DenseLoss(MATCHER))(
        PlainBank(bank, FRAME), batch, SCALE
    )
    total.mean.backward()
    assert float(total.mean.detach()) == 0.0
    assert not bank.grad.any()


def test_a_flat_row_of_one_keypoint_has_no_sparse_loss():
    batch = a_batch(slots=1)
    assert SparseLoss()(PlainBank(noisy(), FRAME), batch, SCALE) == 0


KIND_WEIGHTS = {"plain": 1.0, "single": 0.5, "double": 2.0, "self": 0.25}
ROWS = ((0, 1), (2, 1), (2, 0), (1, 0))


def test_the_total_is_the_weighted_mean_of_rows():
    bank, batch = noisy(), a_batch(ROWS, kinds=tuple(KIND_WEIGHTS))
    batch["count"] = torch.tensor([1.0, 2.0, 1.0, 3.0])
    sparse, dense = SparseLoss(), DenseLoss(MATCHER).eval()
    total = WeightedSum(KIND_WEIGHTS, {"sparse": 0.7, "dense": 1.3}, sparse=sparse, dense=dense).eval()(
        PlainBank(bank, FRAME), batch, SCALE
    )
    weight = torch.tensor(list(KIND_WEIGHTS.values())) * batch["count"]
    rows = 1.3 * dense(PlainBank(bank, FRAME), batch)
    rows[0] += 0.7 * sparse(PlainBank(bank, FRAME), batch, SCALE)[0]  # plain rows only
    torch.testing.assert_close(total.mean, (rows * weight).sum() / weight.sum())
    assert set(total.parts) == {"sparse", *(f"dense_{kind}" for kind in KIND_WEIGHTS)}
    torch.testing.assert_close(total.parts["dense_self"], dense(PlainBank(bank, FRAME), batch)[3])
    torch.testing.assert_close(total.parts["sparse"], sparse(PlainBank(bank, FRAME), batch, SCALE)[0])


def test_a_row_that_counts_twice_is_the_row_twice():
    bank, kinds = noisy(), ("plain", "self")
    loss = WeightedSum({"plain": 1.0, "self": 0.25}, sparse=SparseLoss(), dense=DenseLoss(MATCHER)).eval()
    once, twice = a_batch(ROWS[:2], kinds=kinds), a_batch((*ROWS[:2], ROWS[1]), kinds=(*kinds, "self"))
    for key in ("src_xy_px", "trg_xy_px"):
        twice[key] = torch.cat([once[key], once[key][1:]])
    once["count"] = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(
        loss(PlainBank(bank, FRAME), once, SCALE).mean, loss(PlainBank(bank, FRAME), twice, SCALE).mean
    )


def test_terms_that_read_alike_share_one_pass_and_others_need_not():
    bank, batch = noisy(), a_batch(ROWS, kinds=tuple(KIND_WEIGHTS))
    batch["src_xy_px"] = batch["trg_xy_px"] = batch["src_xy_px"] + 2.0
    sparse, dense = SparseLoss("floor"), DenseLoss(MATCHER)
    total = WeightedSum(KIND_WEIGHTS, sparse=sparse, dense=dense).eval()(PlainBank(bank, FRAME), batch, SCALE)
    torch.testing.assert_close(total.parts["sparse"], sparse(PlainBank(bank, FRAME), batch, SCALE)[0])
    torch.testing.assert_close(total.parts["dense_plain"], dense(PlainBank(bank, FRAME), batch)[0])


@pytest.mark.parametrize("readout", ["soft", "window", "kernel"])
def test_a_step_along_the_gradient_helps(readout):
    batch, bank = a_batch(), noisy().requires_grad_()
    loss = WeightedSum(
        {"plain": 1.0}, sparse=SparseLoss(), dense=DenseLoss(replace(MATCHER, readout=readout, temperature=0.1))
    )
    before = loss.eval()(PlainBank(bank, FRAME), batch, SCALE).mean
    before.backward()
    assert bank.grad[0].any()
    assert bank.grad[1].any()
    assert not bank.grad[2].any()
    stepped = F.normalize(bank.detach() - 1e-3 * bank.grad / bank.grad.norm(), dim=1)
    assert loss(PlainBank(stepped, FRAME), batch, SCALE).mean < before


@pytest.mark.unchecked
def test_wrong_settings_are_refused():
    sparse, dense = SparseLoss(), DenseLoss(MATCHER)
    for parts, kinds in (
        ({"sparse": None}, {"plain": 1.0}),
        ({"sparse": sparse, "dense": dense}, {"triple": 1.0}),
        ({"sparse": sparse, "dense": dense}, {"plain": 0.0}),
    ):
        with pytest.raises(ValueError, match="weights > 0"):
            WeightedSum(kinds, **parts)
    with pytest.raises(ValueError, match="weights names gaussian"):
        WeightedSum({"plain": 1.0}, {"gaussian": 2.0}, dense=dense)
    with pytest.raises(ValueError, match="cell or released"):
        DenseLoss(MATCHER, "nearest")
    with pytest.raises(ValueError, match="features or own"):
        DenseLoss(MATCHER, unit="px")
    with pytest.raises(ValueError, match="no gradient"):
        DenseLoss(replace(MATCHER, readout="argmax"))


def test_a_finer_grid_changes_no_loss_in_cells_of_the_features_and_scales_it_in_its_own():
    """The same error on a grid half as wide: window and distance keep their size, or are counted in its own cells."""
    batch, descriptors = a_batch(), distinct()
    batch["trg_xy_px"] = batch["trg_xy_px"] + torch.tensor([30.0, -40.0])
    matcher = replace(MATCHER, readout="window", radius=2)
    features, own = (
        DenseLoss(matcher, unit=unit).eval()(PlainBank(descriptors, FRAME, finer=2), batch)
        for unit in ("features", "own")
    )
    torch.testing.assert_close(own, torch.tensor([5.0]), rtol=1e-3, atol=0)
    torch.testing.assert_close(features, torch.tensor([2.5]), rtol=1e-3, atol=0)


def test_the_window_of_training_is_simplematchs_formula():
    """45 cells around the peak, softmax at 0.02, mean place, distance to the truth: cell by cell."""
    generator = torch.Generator().manual_seed(0)
    views = F.normalize(torch.randn(2, 6, 50, 50, generator=generator), dim=1)
    xy = torch.rand(1, 3, 2, generator=generator) * 500
    batch = a_batch(slots=3) | {"src_xy_px": xy, "trg_xy_px": xy.flip(1)}
    matcher = Matcher(radius=22, source="floor", frame_px=500)
    got = DenseLoss(matcher, label_noise=0.0, unit="own")(PlainBank(views, 500, finer=4), batch)
    distances = []
    for src, trg in zip(xy[0], xy.flip(1)[0], strict=True):
        x, y = (src // 10).long().tolist()
        similarity = torch.einsum("c,chw->hw", views[0, :, y, x], views[1])
        peak_y, peak_x = divmod(int(similarity.argmax()), 50)
        top, left = max(0, peak_y - 22), max(0, peak_x - 22)
        window = similarity[top : peak_y + 23, left : peak_x + 23]
        weight = torch.softmax(window.flatten() / 0.02, 0).view(window.shape)
        found_x = sum(weight[:, i].sum() * (left + i) for i in range(window.shape[1]))
        found_y = sum(weight[i].sum() * (top + i) for i in range(window.shape[0]))
        distances.append((torch.stack([found_x, found_y]) - (trg / 10 - 0.5)).norm())
    torch.testing.assert_close(got, torch.stack(distances).mean()[None], rtol=1e-4, atol=1e-4)
