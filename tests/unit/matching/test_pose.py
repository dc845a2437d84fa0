"""Instance matching distance, the choice of a pose, and matching under it."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from geoalign.bank import PlainBank
from geoalign.geometry import FLIP, UPRIGHT, Pose, flip_points
from geoalign.matching import Matcher, transfer
from geoalign.matching import pose as poses
from geoalign.matching.pose import (
    choose_pose,
    masked_distance,
    mutual_distance,
    pose_distances,
    posed_keypoints,
    transfer_posed,
)

FULL = torch.ones(6, 6, dtype=torch.bool)


def a_bank(views=2, channels=12, side=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(views, channels, side, side, generator=generator), dim=1)


def distances(source, target, mask=FULL):
    return masked_distance(source, target, mask, mask), mutual_distance(source, target)


def test_a_view_is_at_no_distance_from_itself_and_from_its_shifted_self():
    view = a_bank(1)[0]
    for other in (view, view.roll((2, 1), (1, 2)), view.flip(-1)):
        for distance in distances(view, other):
            assert distance < 1e-3


def test_mirroring_both_views_changes_nothing():
    source, target = a_bank()
    mask = torch.rand(6, 6, generator=torch.Generator().manual_seed(1)) < 0.5
    for there, mirrored in zip(
        distances(source, target, mask), distances(source.flip(-1), target.flip(-1), mask.flip(-1)), strict=True
    ):
        torch.testing.assert_close(there, mirrored)


def test_the_mutual_distance_is_symmetric():
    source, target = a_bank()
    torch.testing.assert_close(mutual_distance(source, target), mutual_distance(target, source))


def test_only_cells_inside_the_masks_count():
    source, target = a_bank()
    mask = torch.zeros(6, 6, dtype=torch.bool)
    mask[1:3, 1:3] = True
    changed = torch.where(mask, source, a_bank(seed=5)[0])
    torch.testing.assert_close(
        masked_distance(source, target, mask, mask), masked_distance(changed, target, mask, mask)
    )
    assert masked_distance(source, target, mask, mask) > masked_distance(source, target, mask, FULL)


def test_an_empty_mask_counts_as_full():
    source, target = a_bank()
    empty = torch.zeros_like(FULL)
    torch.testing.assert_close(
        masked_distance(source, target, empty, empty), masked_distance(source, target, FULL, FULL)
    )


def test_blocks_change_nothing(monkeypatch):
    whole = distances(*a_bank(side=9), mask=torch.ones(9, 9, dtype=torch.bool))
    monkeypatch.setattr(poses, "BLOCK", 7)
    blocks = distances(*a_bank(side=9), mask=torch.ones(9, 9, dtype=torch.bool))
    torch.testing.assert_close(whole, blocks)


def test_masks_are_needed_for_the_masked_distance():
    with pytest.raises(ValueError, match="needs masks"):
        pose_distances(PlainBank(a_bank()), torch.tensor([[0]]), torch.tensor([1]), None, "masked")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=5))
def test_the_earliest_of_the_least_is_chosen(rows):
    choice = choose_pose(torch.tensor(rows, dtype=torch.float32))
    assert choice.tolist() == [row.index(min(row)) for row in rows]


@pytest.mark.parametrize("kind", ["masked", "mutual"])
def test_the_mirrored_target_chooses_the_flip(kind):
    """Features that mirror with their image: the flipped source is the target's own pose."""
    source = a_bank(1)[0]
    turned = F.normalize(source.flip(-1) + 0.1 * a_bank(1, seed=3)[0], dim=0)
    bank = torch.stack([source, source.flip(-1), turned, source])
    bank[0] = F.normalize(bank[0] + 0.5 * a_bank(1, seed=4)[0], dim=0)  # seen from the other side, it looks different
    masks = FULL.expand(4, -1, -1)
    found = pose_distances(PlainBank(bank), torch.tensor([[0, 1], [0, 1]]), torch.tensor([2, 3]), masks, kind)
    assert found.shape == (2, 2)
    assert choose_pose(found)[0] == 1


POSES = (UPRIGHT, FLIP, Pose(False, 90.0))
XY = torch.tensor([[10.0, 20.0], [70.0, 20.0], [40.0, 50.0]])
PARTNER = torch.tensor([1, 0, 2])


def posed(choice, visible=(True, True, True), pose_list=POSES):
    return posed_keypoints(XY[None], torch.tensor([visible]), PARTNER[None], torch.tensor([choice]), pose_list, 80.0)


def test_upright_reads_where_it_was_annotated():
    xy, readable = posed(0, (True, False, True))
    assert torch.equal(xy[0], XY)
    assert readable.tolist() == [[True, False, True]]


def test_a_flip_reads_the_partners_mirrored_point():
    xy, readable = posed(1)
    torch.testing.assert_close(xy[0], flip_points(XY, 80.0)[PARTNER])
    assert readable.all()


def test_a_rotation_moves_points_and_keeps_slots():
    xy, _ = posed(2)
    torch.testing.assert_close(xy[0, 0], torch.tensor([20.0, 70.0]))


def test_without_a_visible_partner_a_flip_cannot_be_read():
    _, readable = posed(1, (True, False, True))
    assert readable.tolist() == [[False, True, True]]  # slot 1's partner is visible, slot 0's is not


def test_forth_and_back_is_where_it_was():
    once, _ = posed(1)
    twice, _ = posed_keypoints(once, torch.ones(1, 3).bool(), PARTNER[None], torch.tensor([1]), POSES, 80.0)
    torch.testing.assert_close(twice[0], XY)


def aligned(bank, choice, visible):
    given = (torch.tensor([[0, 1]]), torch.tensor([2]), XY[None], torch.tensor([visible]), PARTNER[None])
    return transfer_posed(
        PlainBank(bank, 80), *given, torch.tensor([choice]), POSES[:2], Matcher(readout="argmax", frame_px=80)
    )


def test_matching_in_the_chosen_pose_mixes_in_upright_predictions_without_partner():
    bank, visible = a_bank(3, side=8), (True, False, True)
    matcher = Matcher(readout="argmax", frame_px=80)
    upright = transfer(PlainBank(bank, 80), torch.tensor([0]), torch.tensor([2]), XY[None], matcher)
    flipped = transfer(
        PlainBank(bank, 80), torch.tensor([1]), torch.tensor([2]), flip_points(XY, 80.0)[PARTNER][None], matcher
    )
    found = aligned(bank, 1, visible)
    assert torch.equal(found.xy_px[0, 0], upright.xy_px[0, 0])  # partner not visible: the upright prediction stays
    assert not found.xy_px[0, 1].any()  # not visible itself: not asked for
    assert torch.equal(found.xy_px[0, 2], flipped.xy_px[0, 2])
    assert torch.equal(found.score[0, 2], flipped.score[0, 2])


def test_choosing_upright_is_plain_matching_of_what_is_visible():
    bank, visible = a_bank(3, side=8), (True, False, True)
    wanted = torch.tensor([visible])
    plain = transfer(
        PlainBank(bank, 80),
        torch.tensor([0]),
        torch.tensor([2]),
        XY[None],
        Matcher(readout="argmax", frame_px=80),
        wanted,
    )
    found = aligned(bank, 0, visible)
    assert torch.equal(found.xy_px, plain.xy_px)
    assert torch.equal(found.score, plain.score)


def test_only_wanted_slots_are_matched():
    bank, given = PlainBank(a_bank(3, side=8), 80), (torch.tensor([[0, 1]]), torch.tensor([2]), XY[None])
    every, wanted = torch.ones(1, 3).bool(), torch.tensor([[True, False, True]])
    rest = PARTNER[None], torch.tensor([1]), POSES[:2], Matcher(readout="argmax", frame_px=80)
    whole, some = (transfer_posed(bank, *given, every, *rest, wanted=w) for w in (None, wanted))
    assert torch.equal(some.xy_px[wanted], whole.xy_px[wanted])
    assert not some.xy_px[~wanted].any()


def test_alignment_undoes_a_mirrored_scene():
    """The target shows the source mirrored; under the flip every point is found, slots renamed."""
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(70, 70)).Q[:64].T.reshape(70, 8, 8)
    bank = torch.stack([basis, basis.flip(-1), basis.flip(-1)])
    centres = torch.tensor([[15.0, 25.0], [65.0, 25.0], [45.0, 55.0]])
    given = (torch.tensor([[0, 1]]), torch.tensor([2]), centres[None], torch.ones(1, 3).bool(), PARTNER[None])
    found = transfer_posed(
        PlainBank(bank, 80), *given, torch.tensor([1]), POSES[:2], Matcher(readout="argmax", frame_px=80)
    )
    torch.testing.assert_close(found.xy_px[0], flip_points(centres, 80.0)[PARTNER])
