"""A match's confidence: what it grows with, what it must not depend on, and what it says where all is right."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from geoalign.bank import PlainBank, Queries, RecallingBank
from geoalign.geometry import FLIP, UPRIGHT, flip_points
from geoalign.matching import Confidence, Matcher, Plain
from geoalign.matching.confidence import ALONE, ENOUGH, TOGETHER, asked, evidence, evidence_of, peak
from geoalign.matching.constellation import Constellations, shape
from geoalign.report.analyse.confidence import fit
from geoalign.types import Matches, Prediction, Rows

MATCHER = Matcher(radius=1, temperature=0.01, frame_px=80)


def random_bank(views=4, seed=0):
    torch.manual_seed(seed)
    return PlainBank(F.normalize(torch.randn(views, 12, 8, 8), dim=1), 80)


def distinct_bank(views=2):
    """Every cell of every view is found again."""
    basis = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(0))).Q
    return PlainBank(basis.T.reshape(1, 64, 8, 8).repeat(views, 1, 1, 1), 80)


def rows_of(src, trg, xy, wanted=None):
    wanted = torch.ones(xy.shape[:2], dtype=torch.bool) if wanted is None else wanted
    own = torch.arange(xy.shape[1]).expand(xy.shape[:2])
    given = {"src": src, "trg": trg, "src_poses": src[:, None], "src_xy_px": xy, "partner": own, "masks": None}
    return Rows(**given, src_visible=wanted, wanted=wanted)


def confidence(bank, rows, sure=None):
    prediction = Plain()(bank, rows, MATCHER)
    return (sure or Confidence()).of(bank, rows, prediction, (UPRIGHT,), MATCHER)


def grid_points(n=3):
    side = torch.arange(n) * 20.0 + 15
    return torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).reshape(1, -1, 2)


@pytest.mark.parametrize("count", [1, ENOUGH + 1])
@given(column=st.integers(0, len(TOGETHER) - 1), more=st.floats(0, 3), seed=st.integers(0, 99))
def test_more_evidence_is_never_less_probable(count, column, more, seed):
    columns = torch.randn(5, len(TOGETHER), generator=torch.Generator().manual_seed(seed))
    better = columns.clone()
    better[:, column] += more
    counts = torch.full((5,), count)
    assert (Confidence()(better, counts) >= Confidence()(columns, counts)).all()


def test_a_view_finds_back_exactly_and_keeps_its_shape():
    bank, xy = distinct_bank(), grid_points()
    rows = rows_of(torch.tensor([0]), torch.tensor([1]), xy)
    prediction = Plain()(bank, rows, MATCHER)
    _, columns, count = evidence_of(bank, rows, prediction, (UPRIGHT,), MATCHER)
    nothing = -torch.log(torch.tensor(0.02))  # of the way there and back is lost
    torch.testing.assert_close(columns[:, 3:5], nothing.expand(9, 2), atol=0.02, rtol=0)
    assert (columns[:, 5] > 1.5).all()
    assert (columns[:, 6] > 0.9).all()
    assert (count == 9).all()
    assert (confidence(bank, rows) > 0.95).all()


def test_neither_order_nor_company_in_the_batch_changes_anything():
    bank, generator = random_bank(), torch.Generator().manual_seed(1)
    xy = torch.rand(5, 7, 2, generator=generator) * 80
    wanted = torch.rand(5, 7, generator=generator) > 0.2
    src, trg = torch.tensor([0, 1, 2, 0, 3]), torch.tensor([1, 2, 3, 2, 0])
    rows = rows_of(src, trg, xy, wanted)
    whole = confidence(bank, rows)
    assert (whole[~wanted] == 0).all()
    assert (whole[wanted] > 0).all()
    for i in range(5):
        one = rows_of(src[i : i + 1], trg[i : i + 1], xy[i : i + 1], wanted[i : i + 1])
        torch.testing.assert_close(confidence(bank, one)[0], whole[i], atol=1e-4, rtol=1e-3)
    order, slots = torch.randperm(5, generator=generator), torch.randperm(7, generator=generator)
    mixed = rows_of(src[order], trg[order], xy[order][:, slots], wanted[order][:, slots])
    torch.testing.assert_close(confidence(bank, mixed), whole[order][:, slots], atol=1e-4, rtol=1e-3)


def test_no_point_at_all_is_answered():
    rows = rows_of(torch.tensor([0]), torch.tensor([1]), torch.zeros(1, 0, 2))
    assert confidence(random_bank(), rows).shape == (1, 0)


def test_a_match_off_the_shape_of_the_others_is_told():
    xy = grid_points()[0]
    groups = Constellations.of(torch.zeros(9).long(), torch.zeros(9).long())
    moved = xy @ torch.tensor([[1.1, 0.2], [-0.1, 0.9]]) + 5
    moved[4] += torch.tensor([30.0, -10.0])
    found = shape(groups, xy, moved, groups.extent(xy))
    assert int(found.residual.argmax()) == 4
    assert found.residual[4] > 5 * found.residual.sort().values[-2]
    assert (found.determinant > 0).all()
    assert (shape(groups, xy, flip_points(moved, 80), groups.extent(xy)).determinant < 0).all()


def test_points_of_two_rows_are_no_constellation():
    row = torch.tensor([3, 1, 3, 1, 1])
    groups = Constellations.of(row, torch.zeros(5).long())
    assert groups.company().tolist() == [2, 3, 2, 3, 3]
    torch.testing.assert_close(groups.mean(torch.arange(5.0)), torch.tensor([1.0, 8 / 3, 1.0, 8 / 3, 8 / 3]))
    assert groups.extent(torch.tensor([[0.0, 0], [5, 5], [0, 7], [5, 5], [6, 5]])).tolist() == [7, 1, 7, 1, 1]


def test_the_peak_is_compared_with_all_beyond_it():
    maps = torch.zeros(1, 9, 9)
    maps[0, 0, 0], maps[0, 1, 1], maps[0, 8, 8] = 0.9, 0.8, 0.5
    expected = torch.softmax(maps.flatten() / 0.1, 0).view(9, 9)[:3, :3].sum()
    margin, mass = peak(maps.clone(), 2, 0.1)
    torch.testing.assert_close(margin, torch.tensor([0.4]))
    torch.testing.assert_close(mass, expected[None])
    torch.testing.assert_close(peak(maps.clone(), 20, 0.1)[1], torch.ones(1))


def test_a_point_is_asked_where_its_pose_read_it():
    """Under a flip a slot is read at its partner's mirrored place, or upright where the source does not show that."""
    xy, own = torch.tensor([[[10.0, 20.0], [30.0, 40.0], [50.0, 60.0]]]), torch.tensor([[1, 0, 2]])
    visible = torch.tensor([[True, True, True]])
    rows = {**rows_of(torch.tensor([0]), torch.tensor([2]), xy, visible), "partner": own}
    rows["src_poses"] = torch.tensor([[0, 1]])
    prediction = Prediction(Matches(xy, xy[..., 0]), torch.tensor([1]))
    queries = asked(Rows(**rows), prediction, (UPRIGHT, FLIP), MATCHER)
    assert queries.view.tolist() == [1, 1, 1]
    assert queries.xy_px.tolist() == [[50, 40], [70, 20], [30, 60]]
    rows["src_visible"] = torch.tensor([[True, False, True]])
    queries = asked(Rows(**rows), prediction, (UPRIGHT, FLIP), MATCHER)
    assert queries.view.tolist() == [0, 1, 1]
    assert queries.xy_px[0].tolist() == [10, 20]


def test_weights_fitted_to_synthetic_scores_are_calibrated():
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(20000, 3, generator=generator)
    true = torch.sigmoid(columns @ torch.tensor([1.5, 0.5, 0.0]) - 0.4)
    right = torch.rand(20000, generator=generator) < true
    weights = fit(columns, right).float()
    probability = torch.sigmoid(columns @ weights[:-1] + weights[-1])
    assert (weights[:-1] >= 0).all()
    assert weights[2] < 0.05
    for low in torch.arange(0, 1, 0.1):
        inside = (probability >= low) & (probability < low + 0.1)
        assert abs(right[inside].float().mean() - probability[inside].mean()) < 0.03
    with pytest.raises(ValueError, match="right and wrong"):
        fit(columns, right | True)


@pytest.mark.parametrize("alone", [False, True])
def test_a_bank_that_recalls_gives_the_same_for_one_read_less(alone):
    rows = rows_of(torch.tensor([0, 2]), torch.tensor([1, 3]), grid_points().repeat(2, 1, 1))
    found = []
    for bank in (random_bank(), RecallingBank(random_bank())):
        prediction = Plain()(bank, rows, MATCHER)
        found.append(Confidence().of(bank, rows, prediction, (UPRIGHT,), MATCHER, alone))
    assert torch.equal(*found)
    assert len(bank._kept) == 1, "the way there is taken from memory, the way back is new"


def test_a_point_by_itself_is_as_sure_in_any_company():
    rows = rows_of(torch.tensor([0]), torch.tensor([1]), grid_points())
    bank = random_bank()
    whole = Confidence().of(bank, rows, Plain()(bank, rows, MATCHER), (UPRIGHT,), MATCHER, alone=True)
    one = rows_of(torch.tensor([0]), torch.tensor([1]), grid_points()[:, 4:5])
    torch.testing.assert_close(confidence(bank, one)[0, 0], whole[0, 4], atol=1e-5, rtol=1e-4)


def test_evidence_needs_no_gradient_and_any_readout():
    bank, rows = random_bank(), rows_of(torch.tensor([0]), torch.tensor([1]), grid_points())
    for readout in ("argmax", "soft", "window", "kernel"):
        matcher = replace(MATCHER, readout=readout)
        prediction = Plain()(bank, rows, matcher)
        _, columns, _ = evidence_of(bank, rows, prediction, (UPRIGHT,), matcher)
        assert columns.isfinite().all()
        assert not columns.requires_grad
    queries = Queries.of(rows["src"], rows["trg"], rows["src_xy_px"], rows["wanted"])
    columns, count = evidence(bank, queries, queries.xy_px, torch.ones(9), MATCHER)
    assert columns.shape == (9, len(TOGETHER))
    assert count.tolist() == [9] * 9


@pytest.mark.parametrize(
    "wrong",
    [{"alone": [1.0] * len(ALONE)}, {"together": [-1.0] + [0.0] * len(TOGETHER)}, {"alone": [float("nan")] * 5},
     {"visible": 1.5}],
)  # fmt: skip
def test_weights_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=f"confidence.{next(iter(wrong))}"):
        Confidence(**wrong)
