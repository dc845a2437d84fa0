"""Facing, links, filters, chains and sets, on subjects whose truth is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from geoalign.data.records import DataError, ImageRecord
from geoalign.pseudo.chains import chains, spread, survivors
from geoalign.pseudo.facing import facing, likeness
from geoalign.pseudo.label import Labeller, facts, table
from geoalign.pseudo.links import Agreement, BothFlips, Comparison, Link, Ratio, WayBack, link
from geoalign.pseudo.rejecters import Geodesic, Orientation, Sphere
from geoalign.pseudo.subjects import Look, Subject, subject_cells

G, FRAME = 12, 840


def animal(turned: bool, seed: int, noise: float = 0.3) -> Subject:
    """Cells of a body whose descriptors say the place on it, seen from one side or (``turned``) mirrored."""
    generator = torch.Generator().manual_seed(seed)
    parts, reverse = torch.randn(2, G, G, 16, generator=torch.Generator().manual_seed(7))
    parts = F.normalize(parts, dim=-1)
    reverse = F.normalize(parts + 0.2 * reverse, dim=-1)  # a thing looks a little different in a mirror
    inside = torch.zeros(G, G, dtype=torch.bool)
    inside[3:9, 2:10] = True
    views = []
    for flip in (turned, not turned):
        view = reverse.flip(1) if flip else parts
        views.append(
            F.normalize(view + noise * torch.randn(G, G, 16, generator=generator) / 4, dim=-1).permute(2, 0, 1)
        )
    subject = Subject.of(torch.stack(views), inside, FRAME)
    assert subject is not None
    return subject


TURNED = [False, True, True, False, False, True]


def records(azimuth: int = -1) -> list[ImageRecord]:
    empty = np.zeros((1, 2), np.float32), np.zeros(1, bool)
    return [
        ImageRecord(f"{i}.png", Path(f"/photos/{i}.png"), (840, 840), "cat", *empty, (0, 0, 840, 840),
                    azimuth if azimuth < 0 else (azimuth + i) % 8)
        for i in range(len(TURNED))
    ]  # fmt: skip


@pytest.fixture(scope="module")
def subjects() -> list[Subject]:
    return [animal(turned, seed) for seed, turned in enumerate(TURNED)]


def test_photographs_that_face_alike_are_found_without_a_label(subjects):
    found = facing(likeness(subjects))
    assert found.mirrored.tolist() == TURNED  # the first one stands as it is
    assert found.agreement.min() > 0.9


def pair(a: Subject, b: Subject, mirrored=(False, False)) -> Comparison:
    return Comparison(("a", "b"), (a, b), mirrored)


def test_a_link_of_two_that_face_one_way_is_right(subjects):
    found = link(pair(subjects[0], subjects[1], (False, True)), [WayBack(), Agreement(), BothFlips(), Ratio()])
    assert found.keep.float().mean() > 0.9
    src, trg = subjects[0].upright.xy_px, subjects[1].mirrored.xy_px
    torch.testing.assert_close(trg[found.trg][found.keep], src[found.keep])


def _scrambled(subject: Subject, cells: list[int]) -> Subject:
    """Some cells look like others."""
    order = torch.arange(len(subject.upright.xy_px))
    order[cells] = order[cells].roll(1)
    return Subject(*(Look(look.descriptors[order], look.xy_px) for look in subject))


def test_agreement_drops_matches_that_no_map_explains(subjects):
    wrong = [0, 20, 47]
    keep = Agreement()(pair(subjects[0], _scrambled(subjects[3], wrong)))
    assert not keep[wrong].any()
    assert keep.float().mean() > 0.8


def test_both_flips_drops_what_only_one_shows(subjects):
    other = _scrambled(subjects[3], [5, 40])
    half = Subject(subjects[3].upright, other.mirrored)
    keep = BothFlips()(pair(subjects[0], half))
    assert not keep[[5, 40]].any()
    assert keep.float().mean() > 0.8


def test_way_back_within_nothing_is_mutual(subjects):
    one = pair(subjects[0], subjects[3])
    mutual = one.similarity.argmax(0)[one.nearest] == torch.arange(len(one.nearest))
    assert torch.equal(WayBack(0.0)(one), mutual)


def test_ratio_drops_what_has_a_double(subjects):
    descriptors = subjects[3].upright.descriptors.clone()
    descriptors[45] = descriptors[1]
    twins = subjects[3]._replace(upright=Look(descriptors, subjects[3].upright.xy_px))
    keep = Ratio()(pair(subjects[0], twins))
    assert not keep[1]
    assert keep.float().mean() > 0.8


def test_survivors_are_kept_by_every_link_and_come_home():
    def made(a: int, b: int) -> Link:
        trg = torch.tensor([0, 1, 2, 3])
        keep = torch.ones(4, dtype=torch.bool)
        if (a, b) == (0, 1):
            keep[0] = False
        if (a, b) == (1, 2):
            trg = torch.tensor([1, 0, 2, 3])
            keep[2] = False
        if (a, b) == (2, 0):
            trg = torch.tensor([1, 1, 2, 3])
        return Link(trg, keep, torch.tensor([1.0, 0.5, 1.0, 0.25]))

    tracks = survivors((0, 1, 2), made, lambda cells: (cells[0] != cells[1]).float())
    assert tracks.cells.tolist() == [[1, 1, 0], [3, 3, 3]]
    assert tracks.weight.tolist() == [0.5, 0.25]


def test_chains_by_azimuth_go_round_one_way():
    azimuth = np.arange(16) % 8
    made = list(chains("azimuth", 4, 40, np.zeros((16, 16)), azimuth))
    assert made
    for chain in made:
        steps = {(b - a) % 8 for a, b in zip(azimuth[list(chain)], azimuth[list(chain)][1:], strict=False)}
        assert steps in ({1}, {7})
        assert len(set(chain)) == 4


@pytest.mark.parametrize("order", ["likeness", "random"])
def test_chains_hold_no_photograph_twice(order):
    made = list(chains(order, 3, 12, np.random.default_rng(0).random((6, 6)), np.full(6, -1)))
    assert len(made) == 12
    assert all(len(set(chain)) == 3 for chain in made)
    assert not list(chains(order, 7, 12, np.zeros((6, 6)), np.full(6, -1)))


def test_points_are_spread():
    xy = torch.cat([torch.rand(50, 2), torch.tensor([[100.0, 0], [0, 100], [100, 100]])])
    kept = spread(xy, 4, torch.ones(53))
    assert kept.sum() == 4
    assert kept[50:].all()


def test_sets_match_truly_and_become_a_file(subjects):
    labeller = Labeller(size=3, opposite=0.0, filters={"way_back": WayBack(), "agreement": Agreement(), "none": None})
    found = labeller.kinds(records(), subjects)
    assert found.sets
    assert found.facing.mirrored.tolist() == TURNED
    for one in found.sets:
        shown = [
            FRAME - xy if turned else xy for xy, turned in zip(one.xy_px[..., 0].unbind(1), one.mirrored, strict=True)
        ]
        for other in shown[1:]:
            torch.testing.assert_close(other, shown[0])
    rows = table(found.sets, records())
    assert len(rows) == sum(3 * one.points for one in found.sets)
    assert facts(records(), Path("/photos"))["0.png"]["path"] == "0.png"


def test_opposite_sets_come_once_more_as_they_are(subjects):
    plain = Labeller(size=3, opposite=0.0, filters={"way_back": WayBack()})
    once, twice = (labeller.kinds(records(), subjects).sets for labeller in (plain, replace(plain, opposite=0.5)))
    mixed = [one for one in once if len(set(one.mirrored)) > 1]
    assert mixed
    assert len(twice) == len(once) + len(mixed)
    for one, again in zip(mixed, twice[len(once) :], strict=True):
        assert again.images == one.images
        assert not any(again.mirrored)
        torch.testing.assert_close(again.weight, 0.5 * one.weight)


def test_without_facing_the_mirrored_are_matched_to_the_wrong_side(subjects):
    blind = Labeller(size=2, order="random", mirror=False, filters={"way_back": WayBack()}).kinds(records(), subjects)
    assert not blind.facing.mirrored.any()


def test_azimuth_must_be_known(subjects):
    with pytest.raises(ValueError, match="azimuth"):
        Labeller(order="azimuth").kinds(records(), subjects)
    assert Labeller(order="azimuth", size=2, fewest=2).kinds(records(0), subjects).sets


@pytest.mark.unchecked
@pytest.mark.parametrize(
    "wrong", [{"size": 1}, {"per_image": 0}, {"fewest": 1}, {"points": 3}, {"order": "size"}, {"opposite": 2.0}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError, match="got"):
        Labeller(**wrong)


def test_a_subject_needs_cells():
    assert Subject.of(torch.zeros(2, 4, 6, 6), torch.eye(6, dtype=torch.bool)) is None


def test_a_foreground_that_misses_the_box_is_not_believed():
    foreground = torch.zeros(10, 10, dtype=torch.bool)
    foreground[0] = True
    box = subject_cells(foreground, (40.0, 40.0, 80.0, 80.0), 100)
    assert box.nonzero().amin(0).tolist() == [4, 4]
    assert int(box.sum()) == 16
    foreground[4:8, 4:8] = True
    foreground[7] = False
    assert int(subject_cells(foreground, (40.0, 40.0, 80.0, 80.0), 100).sum()) == 12
    assert torch.equal(subject_cells(foreground, None), foreground)


def _place(name, xy_px):
    return xy_px / FRAME


def test_orientation_keeps_photographs_of_one_side(tmp_path, subjects):
    np.savez(tmp_path / "p.npz", a=np.array([80.0]), b=np.array([-70.0]))
    keep = Orientation(str(tmp_path / "p.npz"))
    assert not keep(pair(subjects[0], subjects[1])).any()
    assert keep(pair(subjects[0], subjects[1], (False, True))).all()


def test_a_sphere_rejects_by_angle(tmp_path, subjects):
    x = np.linspace(-1, 1, 40)[None].repeat(40, 0)
    sphere = np.stack([np.sin(x), np.zeros_like(x), np.cos(x)], -1)
    np.savez(tmp_path / "p.npz", a=sphere, b=sphere, c=sphere[:, ::-1] * [-1, 1, 1])
    keep = Sphere(str(tmp_path / "p.npz"), place=_place)
    assert keep(pair(subjects[0], subjects[3])).float().mean() > 0.9
    turned = Comparison(("a", "b"), (subjects[0], subjects[1]), (False, True))
    assert keep(turned).float().mean() > 0.9  # a mirrored sphere, mirrored
    narrow = replace(keep, angle=0.0001)
    assert narrow(pair(subjects[0], _scrambled(subjects[3], [0, 20, 47]))).float().mean() < 0.97


def test_geodesic_distances_reject(tmp_path, subjects):
    column = np.tile(np.arange(40), (40, 1)).astype(float)
    distance = np.abs(np.subtract.outer(np.arange(40), np.arange(40))) / 40
    np.savez(tmp_path / "p.npz", a=column, b=column, distance=distance, mirror=np.arange(39, -1, -1.0))
    keep = Geodesic(str(tmp_path / "p.npz"), place=_place)
    assert keep(pair(subjects[0], subjects[3])).float().mean() > 0.9
    assert keep(pair(subjects[0], subjects[1], (False, True))).float().mean() > 0.9
    assert not keep(pair(subjects[0], _scrambled(subjects[3], [0, 7])))[[0, 7]].any()


def test_predictions_must_be_there_and_fit(tmp_path, subjects):
    one = pair(subjects[0], subjects[3])
    with pytest.raises(DataError, match="no such file"):
        Orientation(str(tmp_path / "none.npz"))(one)
    np.savez(tmp_path / "p.npz", a=np.zeros(2))
    with pytest.raises(DataError, match="finite numbers of shape"):
        Orientation(str(tmp_path / "p.npz"))(one)
    np.savez(tmp_path / "q.npz", a=np.zeros(1))
    with pytest.raises(DataError, match="an array of that name"):
        Orientation(str(tmp_path / "q.npz"))(one)
