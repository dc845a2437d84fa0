"""The Gaussian cross-entropy beside its formulas as the papers write them, point by point; and its schedule."""

import math

import pytest
import torch
import torch.nn.functional as F

from geoalign.bank import PlainBank
from geoalign.losses import Cosine, GaussianLoss, Moment, WeightedSum
from geoalign.losses.gaussian import cells_cross_entropy, lattice_cross_entropy
from geoalign.types import KINDS

H, W = 6, 7
POINTS = torch.tensor([[3.3, 2.6], [0.0, 5.0], [-0.4, 2.25], [6.45, 5.5], [2.0, 1.999]], dtype=torch.float64)


def maps(seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(POINTS), H, W, generator=generator, dtype=torch.float64) * scale


def density(dx, dy, sigma):
    return math.exp(-(dx**2 + dy**2) / (2 * sigma**2)) / (2 * math.pi * sigma**2)


def slow_cells(logits, point, sigma, side, renormalise):
    probability = torch.softmax(logits.flatten(), 0).view(H, W)
    near = [min(max(math.floor(float(c) + 0.5), 0), n - 1) for c, n in zip(point, (W, H), strict=True)]
    total, mass = torch.zeros((), dtype=torch.float64), 0.0
    for y in range(H):
        for x in range(W):
            if side is not None and max(abs(x - near[0]), abs(y - near[1])) > side // 2:
                continue
            g = density(x - float(point[0]), y - float(point[1]), sigma)
            total, mass = total - g * torch.log(probability[y, x]), mass + g
    return total / mass if renormalise else total


def slow_lattice(logits, point, sigma, side, renormalise, floor):
    """A softmax map plus a constant, sampled between cells; border cells reach half a cell beyond their centres."""
    probability = torch.softmax(logits.flatten(), 0).view(H, W) + floor
    total, mass, half = torch.zeros((), dtype=torch.float64), 0.0, side // 2
    for dy in range(-half, half + 1):
        for dx in range(-half, half + 1):
            x, y = float(point[0]) + dx, float(point[1]) + dy
            if not (-0.5 <= x <= W - 0.5 and -0.5 <= y <= H - 0.5):
                continue
            x, y = min(max(x, 0.0), W - 1.0), min(max(y, 0.0), H - 1.0)
            x0, y0 = min(int(x), W - 2), min(int(y), H - 2)
            fx, fy = x - x0, y - y0
            p = (1 - fy) * ((1 - fx) * probability[y0, x0] + fx * probability[y0, x0 + 1]) + fy * (
                (1 - fx) * probability[y0 + 1, x0] + fx * probability[y0 + 1, x0 + 1]
            )
            g = density(dx, dy, sigma)
            total, mass = total - g * torch.log(p), mass + g
    return total / mass if renormalise else total


def both(fast, slow):
    """Values and gradients of the whole maps, fast and slow."""
    one, other = (maps().requires_grad_() for _ in range(2))
    got = fast(one)
    expected = torch.stack([slow(logits, point) for logits, point in zip(other, POINTS, strict=True)])
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    weight = torch.arange(1.0, len(POINTS) + 1, dtype=torch.float64)
    (got * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("renormalise", [True, False])
@pytest.mark.parametrize("side", [None, 1, 3, 7])
@pytest.mark.parametrize("sigma", [0.7, 3.5])
def test_cells(sigma, side, renormalise):
    both(
        lambda logits: cells_cross_entropy(logits, POINTS, sigma, side, renormalise),
        lambda logits, point: slow_cells(logits, point, sigma, side, renormalise),
    )


@pytest.mark.parametrize("renormalise", [True, False])
@pytest.mark.parametrize("floor", [0.0, 1e-6])
@pytest.mark.parametrize(("side", "sigma"), [(1, 1.0), (7, 1.5), (15, 3.5)])
def test_lattice(side, sigma, floor, renormalise):
    both(
        lambda logits: lattice_cross_entropy(logits, POINTS, sigma, side, renormalise, floor),
        lambda logits, point: slow_lattice(logits, point, sigma, side, renormalise, floor),
    )


def test_probabilities_that_vanish_in_floating_point_still_teach():
    """Logits far apart: a softmax and its logarithm would be log(0)."""
    logits = torch.zeros(1, 5, 5).index_put((torch.tensor(0), torch.tensor(4), torch.tensor(4)), torch.tensor(300.0))
    logits.requires_grad_()
    loss = lattice_cross_entropy(logits, torch.tensor([[1.2, 1.7]]), 1.0, 3)
    loss.sum().backward()
    assert 290 < loss.item() < 310
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 1, 1] < 0 < logits.grad[0, 4, 4]


def test_the_loss_is_least_where_the_map_is_the_gaussian():
    point, x = torch.tensor([[2.3, 3.1]]), torch.arange(6.0)
    log_bell = [-((x - point[0, i]) ** 2) / (2 * 1.2**2) for i in (0, 1)]
    logits = (log_bell[1][:, None] + log_bell[0])[None].requires_grad_()
    cells_cross_entropy(logits, point, 1.2).sum().backward()
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits), rtol=0, atol=1e-6)


def a_batch():
    """Two rows of three slots, one of them not visible; points between cells of an 8×8 grid of 10 px."""
    generator = torch.Generator().manual_seed(1)
    src, trg = (torch.rand(2, 3, 2, generator=generator) * 80 for _ in range(2))
    visible = torch.tensor([[True, True, True], [True, False, True]])
    kind = torch.tensor([KINDS.index("plain"), KINDS.index("double")])
    ends = {"src": torch.tensor([0, 2]), "trg": torch.tensor([1, 0])}
    return {
        **ends,
        "src_xy_px": src,
        "trg_xy_px": trg,
        "visible": visible,
        "kind": kind,
        "count": torch.tensor([1.0, 3.0]),
    }


def a_bank():
    generator = torch.Generator().manual_seed(2)
    return F.normalize(torch.randn(3, 6, 8, 8, generator=generator), dim=1)


@pytest.mark.parametrize("learned", [False, True])
def test_the_term_in_the_weighted_sum(learned):
    """Mean over a row's visible keypoints, rows by kind and count, temperature fixed or the refiner's."""
    batch, descriptors = a_batch(), a_bank().requires_grad_()
    bank, scale = PlainBank(descriptors, 80), torch.tensor(1.5, requires_grad=True)
    term = GaussianLoss(sigma=Cosine(3.0, 1.0, 0, 10, "steps"), temperature=None if learned else 0.2)
    total = WeightedSum({"plain": 1.0, "double": 0.5}, {"gaussian": 2.0}, gaussian=term)(
        bank, batch, Moment(scale if learned else None, step=5)
    )
    rows = []
    for row in range(2):
        each = []
        for slot in torch.nonzero(batch["visible"][row]).flatten():
            query = bank.at(batch["src"][row : row + 1], batch["src_xy_px"][row, slot][None])
            logits = bank.similarity(query, batch["trg"][row : row + 1]) * (scale.exp() if learned else 1 / 0.2)
            point = batch["trg_xy_px"][row, slot] / 10 - 0.5
            each.append(cells_cross_entropy(logits, point[None], 2.0))  # halfway from 3 to 1
        rows.append(torch.cat(each).mean())
    torch.testing.assert_close(total.mean, 2 * (rows[0] * 1 + rows[1] * 1.5) / 2.5)
    assert set(total.parts) == {"gaussian_plain", "gaussian_double"}
    torch.testing.assert_close(total.parts["gaussian_double"], rows[1].detach())
    total.mean.backward()
    assert (scale.grad is not None) == learned
    assert descriptors.grad.any()


def test_the_schedule_is_flat_then_a_cosine_then_flat():
    """MARCO's: 3.5 for 1,000 steps, 1 from step 12,000 on."""
    sigma = Cosine(3.5, 1.0, 1000, 12000, "steps")
    assert sigma.at(0, None) == sigma.at(1000, None) == 3.5
    assert sigma.at(12000, None) == sigma.at(99999, None) == 1.0
    assert sigma.at(6500, None) == pytest.approx(2.25)
    assert sigma.at(3750, None) == pytest.approx(1 + 2.5 * (1 + math.cos(math.pi / 4)) / 2)
    share = Cosine(3.5, 1.0, 0.25, 0.75)
    assert [share.at(step, 40) for step in (10, 20, 30)] == pytest.approx([3.5, 2.25, 1.0])


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "grid"}, "cells or lattice"),
        ({"source": "nearest"}, "bilinear or floor"),
        ({"form": "lattice"}, "odd"),
        ({"side": 4}, "odd"),
        ({"side": -1}, "odd"),
        ({"floor": 1e-6}, "form=lattice"),
        ({"sigma": 0.0}, "sigma > 0"),
        ({"sigma": Cosine(1.0, 0.0)}, "sigma > 0"),
        ({"temperature": 0.0}, "temperature > 0"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GaussianLoss(**options)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "epochs"}, "share or steps"),
        ({"since": 0.5, "until": 0.5}, "since < until"),
        ({"since": -1, "until": 2, "unit": "steps"}, "since < until"),
        ({"until": 1.5}, "until <= 1"),
    ],
)
def test_wrong_schedules_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Cosine(3.0, 1.0, **options)


def test_a_schedule_longer_than_training_is_refused_with_the_remedy():
    loss = WeightedSum({"plain": 1.0}, gaussian=GaussianLoss(Cosine(3.5, 1.0, 1000, 12000, "steps")))
    loss.check_steps(12000)
    loss.check_steps(None)
    with pytest.raises(ValueError, match=r"loss.gaussian.sigma arrives at step 12000, training has 300 steps; train"):
        loss.check_steps(300)
    with pytest.raises(ValueError, match="training without end"):
        Cosine(3.5, 1.0).at(3, None)


def test_a_scale_that_is_not_learned_is_refused_with_the_remedy():
    loss = WeightedSum({"plain": 1.0}, gaussian=GaussianLoss(temperature=None))
    with pytest.raises(ValueError, match=r"loss.gaussian.temperature to a number"):
        loss(PlainBank(a_bank(), 80), a_batch())
