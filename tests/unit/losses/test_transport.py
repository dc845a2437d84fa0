"""The transport loss beside Sinkhorn's iterations as they are written, and the loss cell by cell."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.spair_tree import write_tree

from geoalign.bank import PlainBank
from geoalign.data.batch.masks import dataset_mask, subject_mask
from geoalign.data.readers.spair import SPair71k
from geoalign.losses import TransportLoss, WeightedSum
from geoalign.losses.sinkhorn import log_plan
from geoalign.losses.transport import End, mass
from geoalign.types import KINDS


def slow_plan(similarity, src_mass, trg_mass, bin_score, entropy, relaxation, iterations):
    """In probabilities, as textbooks write it: scale rows, then columns, each to a power."""
    n, m = similarity.shape
    score = torch.full((n + 1, m + 1), bin_score, dtype=torch.float64)
    score[:n, :m] = similarity
    kernel, power = torch.exp(score / entropy), relaxation / (relaxation + entropy)
    v = torch.ones(m + 1, dtype=torch.float64)
    for _ in range(iterations):
        u = (src_mass / (kernel @ v)) ** power
        v = (trg_mass / (kernel.T @ u)) ** power
    return u[:, None] * kernel * v


def masses(n, m):
    generator = torch.Generator().manual_seed(0)
    return [F.normalize(torch.rand(k + 1, generator=generator, dtype=torch.float64), p=1, dim=0) for k in (n, m)]


@pytest.mark.parametrize("settings", [(0.3, 0.1, 10.0, 10), (0.0, 0.5, 1.0, 3), (0.3, 0.1, 10.0, 1)])
def test_the_plan_and_its_gradient(settings):
    generator = torch.Generator().manual_seed(1)
    similarity = torch.rand(6, 9, generator=generator, dtype=torch.float64) * 2 - 1
    weight = torch.rand(7, 10, generator=generator, dtype=torch.float64)
    fast, plain = (similarity.clone().requires_grad_() for _ in range(2))
    got, expected = log_plan(fast, *masses(6, 9), *settings), slow_plan(plain, *masses(6, 9), *settings)
    torch.testing.assert_close(got.exp(), expected, rtol=1e-10, atol=1e-14)
    (got * weight).sum().backward()
    (expected.log() * weight).sum().backward()
    torch.testing.assert_close(fast.grad, plain.grad, rtol=1e-9, atol=1e-12)


def test_with_marginals_that_must_be_kept_they_are():
    plan = log_plan(torch.rand(5, 4, dtype=torch.float64), *masses(5, 4), relaxation=1e6, iterations=500).exp()
    torch.testing.assert_close(plan.sum(1), masses(5, 4)[0], rtol=1e-3, atol=0)
    torch.testing.assert_close(plan.sum(0), masses(5, 4)[1], rtol=1e-3, atol=0)


CELLS, SLOTS = 12, 5
PARTNER = torch.tensor([1, 0, 2, 4, 3])


def ends():
    """Slots 0, 1 and 2 in both, 3 in the source alone, 4 in the target alone; subjects are some cells of each."""
    src_seen, trg_seen = torch.tensor([1, 1, 1, 1, 0]).bool(), torch.tensor([1, 1, 1, 0, 1]).bool()
    src_subject, trg_subject = torch.zeros(CELLS).bool(), torch.zeros(CELLS).bool()
    src_subject[2:7], trg_subject[5:11] = True, True
    return (
        End(torch.tensor([2, 3, 4, 6, 0]), src_seen, src_subject),
        End(torch.tensor([5, 6, 8, 0, 9]), trg_seen, trg_subject),
    )


def slow_row(src, trg, src_end, trg_end, weights):
    def marginal(end):
        found = sum(bool(a and b) for a, b in zip(src_end.seen, trg_end.seen, strict=True))
        share = 0.9 * (found + 1) / (int(end.seen.sum()) + 1)
        inside = int(end.subject.sum())
        each = [share / inside if subject else 0.1 / (CELLS - inside) for subject in end.subject.tolist()]
        return torch.tensor([*each, 1 - sum(each)], dtype=torch.float64)

    plan = slow_plan(src @ trg.T, marginal(src_end), marginal(trg_end), 0.3, 0.1, 10.0, 10)
    n = CELLS + 1
    match, unseen, mirror, background = [], [], [], []
    for slot in range(SLOTS):
        i, j = int(src_end.cell[slot]), int(trg_end.cell[slot])
        here, there = bool(src_end.seen[slot]), bool(trg_end.seen[slot])
        if here and there:
            match.append(-torch.log(plan[i, j]) / n)
        elif here:
            unseen.append(-torch.log(plan[i, CELLS]) / n)
        elif there:
            unseen.append(-torch.log(plan[CELLS, j]) / n)
        other = int(PARTNER[slot])
        if here and other != slot and trg_end.seen[other]:
            mirror.append(-torch.log(1 - plan[i, int(trg_end.cell[other])]))
    for i in range(CELLS):
        for j in range(CELLS):
            if bool(src_end.subject[i]) != bool(trg_end.subject[j]):
                background.append(-torch.log(1 - plan[i, j]))
    terms = [sum(values) / len(values) for values in (match, unseen, mirror, background)]
    return n * sum(weight * term for weight, term in zip(weights, terms, strict=True))


@pytest.mark.parametrize("weights", [(1.0, 1.0, 10.0, 10.0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)])
def test_a_row_and_its_gradient(weights):
    generator = torch.Generator().manual_seed(2)
    views = [F.normalize(torch.randn(CELLS, 6, generator=generator, dtype=torch.float64), dim=1) for _ in range(2)]
    fast, plain = ([view.clone().requires_grad_() for view in views] for _ in range(2))
    names = ("match", "unseen", "mirror", "background")
    term = TransportLoss(**dict(zip(names, map(float, weights), strict=True)))
    got, expected = term.row(*fast, *ends(), PARTNER), slow_row(*plain, *ends(), weights)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=0)
    got.backward()
    expected.backward()
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-7, atol=1e-10)


def test_all_keypoints_found_leave_the_bin_nearly_nothing():
    src, _ = ends()
    both = src.seen
    masses = mass(src, both, torch.zeros(1))
    torch.testing.assert_close(masses[:-1][src.subject].sum(), torch.tensor(0.9))
    assert 0 < masses[-1] < 1e-5


def a_batch(masks=True):
    generator = torch.Generator().manual_seed(3)
    xy = [torch.rand(3, 4, 2, generator=generator) * 80 for _ in range(2)]
    visible = torch.ones(3, 4, dtype=torch.bool)
    visible[2] = False
    mask = torch.zeros(3, 16, 16, dtype=torch.bool)
    mask[:, 4:12, 2:10] = True
    return {
        "views": {"masks": mask} if masks else {},
        "src": torch.tensor([0, 1, 2]),
        "trg": torch.tensor([1, 2, 0]),
        "src_xy_px": xy[0],
        "trg_xy_px": xy[1],
        "src_visible": visible,
        "trg_visible": torch.ones(3, 4, dtype=torch.bool),
        "visible": visible,
        "partner": torch.tensor([[1, 0, 2, 3]] * 3),
        "kind": torch.full((3,), KINDS.index("plain")),
        "count": torch.ones(3),
    }


def test_rows_of_a_bank_are_averaged_to_the_grid_of_the_plan():
    """An 8×8 bank on a 4×4 plan: means of four cells, masked where half is inside; rows without points are nothing."""
    generator = torch.Generator().manual_seed(4)
    views = F.normalize(torch.randn(3, 6, 8, 8, generator=generator), dim=1).requires_grad_()
    batch, term = a_batch(), TransportLoss(side=4)
    got = term(PlainBank(views, 80), batch)
    coarse = F.normalize(views.unflatten(-1, (4, 2)).unflatten(-3, (4, 2)).mean((-1, -3)).flatten(2).mT, dim=-1)
    subject = torch.zeros(4, 4, dtype=torch.bool)
    subject[1:3] = torch.tensor([True, True, True, False])  # columns 2 to 9 of 16: the first and third are half inside
    for row in range(2):
        src, trg = (
            End((xy[:, 1] // 20 * 4 + xy[:, 0] // 20).long(), torch.ones(4, dtype=torch.bool), subject.flatten())
            for xy in (batch["src_xy_px"][row], batch["trg_xy_px"][row])
        )
        expected = term.row(coarse[row], coarse[row + 1], src, trg, batch["partner"][row])
        torch.testing.assert_close(got[row], expected)
    assert got[2] == 0
    total = WeightedSum({"plain": 1.0}, transport=term)(PlainBank(views, 80), batch)
    assert float(total.weight) == 2.0
    total.mean.backward()
    assert views.grad.isfinite().all()
    assert views.grad.any()


def test_a_finer_grid_changes_no_row():
    """``side`` lies between the features' cells and the head's: keypoints are looked up where the cells are."""
    views = F.normalize(torch.randn(3, 6, 8, 8, generator=torch.Generator().manual_seed(4)), dim=1)
    fine = PlainBank(views.repeat_interleave(2, 2).repeat_interleave(2, 3), 80, finer=2)
    term = TransportLoss(side=12)
    torch.testing.assert_close(term(fine, a_batch()), term(PlainBank(views, 80), a_batch()))


def test_training_pulls_matches_together_and_pushes_mirror_parts_away():
    generator = torch.Generator().manual_seed(5)
    views = torch.randn(2, CELLS, 6, generator=generator)
    term, (src, trg) = TransportLoss(), ends()
    plan = lambda v: log_plan(v[0] @ v[1].T, mass(src, src.seen & trg.seen, v), mass(trg, src.seen & trg.seen, v)).exp()  # noqa: E731
    unit = lambda v: F.normalize(v, dim=-1)  # noqa: E731
    before = plan(unit(views))
    for _ in range(60):
        views.requires_grad_()
        loss = term.row(*unit(views), src, trg, PARTNER)
        views = (views - 0.05 * torch.autograd.grad(loss, views)[0]).detach()
    after = plan(unit(views))
    assert after[2, 5] > 2 * before[2, 5]  # slot 0 and its match
    assert after[2, 6] < after[2, 5] / 2  # slot 0 and slot 1's place
    assert after[6, CELLS] > before[6, CELLS]  # slot 3, which the target does not show


def test_the_subject_is_the_mask_or_else_the_box(tmp_path):
    write_tree(tmp_path)
    image = SPair71k(tmp_path).images[0]
    without = image._replace(mask_path=None)
    assert not dataset_mask(without, 60).any()
    box = subject_mask(without, 60)
    ys, xs = np.nonzero(box)
    h, w = image.size
    scale, x1, y1, x2, y2 = 60 / max(h, w), *image.box_px
    dx, dy = (60 - w * scale) / 2, (60 - h * scale) / 2
    for got, expected in zip((xs.min(), ys.min(), xs.max(), ys.max()), (x1, y1, x2, y2), strict=True):
        offset = dx if got in (xs.min(), xs.max()) and expected in (x1, x2) else dy
        assert math.isclose(got + 0.5, expected * scale + offset, abs_tol=1.5)


@pytest.mark.unchecked
@pytest.mark.parametrize("options", [{"side": 0}, {"entropy": 0.0}, {"relaxation": -1.0}, {"iterations": 0}])
def test_wrong_settings_are_refused(options):
    with pytest.raises(ValueError, match="above 0"):
        TransportLoss(**options)


def test_a_batch_without_masks_is_refused():
    with pytest.raises(ValueError, match="no masks"):
        TransportLoss(side=4)(PlainBank(torch.ones(3, 2, 8, 8), 80), a_batch(masks=False))
