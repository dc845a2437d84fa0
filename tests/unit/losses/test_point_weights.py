"""A weight per point: losses of a row are weighted means, and weights that are equal change nothing."""

import pytest
import torch

from geoalign.bank import PlainBank
from geoalign.losses import DenseLoss, GaussianLoss, SparseLoss
from geoalign.losses.base import Moment
from geoalign.losses.reads import point_shares
from geoalign.matching import Matcher

MOMENT = Moment(torch.tensor(1.0), 0, 10)


def _batch(weight=None):
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.rand(*shape, generator=generator)  # noqa: E731
    visible = torch.tensor([[True, True, True, False], [True, False, True, True], [False] * 4])
    batch = {
        "src": torch.tensor([0, 1, 2]), "trg": torch.tensor([2, 0, 1]), "visible": visible,
        "src_xy_px": 80 * draw(3, 4, 2), "trg_xy_px": 80 * draw(3, 4, 2), "size_px": torch.full((3,), 80.0),
        "noise": torch.zeros(3, 4, 2),
    }  # fmt: skip
    if weight is not None:
        batch["weight"] = weight
    descriptors = torch.nn.functional.normalize(torch.randn(3, 6, 8, 8, generator=generator), dim=1)
    return PlainBank(descriptors, 80), batch


TERMS = [SparseLoss(), DenseLoss(Matcher(frame_px=80), label_noise=0.0), GaussianLoss()]


@pytest.mark.parametrize("term", TERMS, ids=lambda term: type(term).__name__)
@pytest.mark.parametrize("equal", [1.0, 0.2])
def test_equal_weights_change_nothing(term, equal):
    bank, batch = _batch()
    _, weighted = _batch(torch.full((3, 4), equal))
    torch.testing.assert_close(term(bank, weighted, MOMENT), term(bank, batch, MOMENT))


@pytest.mark.parametrize("term", TERMS[1:], ids=lambda term: type(term).__name__)
def test_a_row_is_the_weighted_mean_of_its_points(term):
    weight = torch.tensor([[0.5, 2.0, 0.0, 9.0], [1.0, 9.0, 3.0, 0.0], [1.0] * 4])
    bank, batch = _batch(weight)
    expected = torch.zeros(3)
    for row, seen in enumerate(batch["visible"]):
        each = []
        for slot in seen.nonzero().flatten().tolist():
            alone = {**_batch()[1], "visible": torch.zeros(3, 4, dtype=torch.bool)}
            alone["visible"][row, slot] = True
            each.append((float(weight[row, slot]), float(term(bank, alone, MOMENT)[row])))
        expected[row] = sum(w * e for w, e in each) / sum(w for w, _ in each) if each else 0
    torch.testing.assert_close(term(bank, batch, MOMENT), expected)


def test_shares_of_a_row_are_one_in_all_or_none():
    _, batch = _batch(torch.tensor([[0.0] * 4, [2.0] * 4, [1.0] * 4]))
    assert point_shares(batch).sum(-1).tolist() == pytest.approx([0, 1, 0])
    assert not point_shares(batch, torch.zeros(3, dtype=torch.bool)).any()
