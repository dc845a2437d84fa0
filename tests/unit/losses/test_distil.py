"""The teacher's average, what the miner finds and trusts, and the loss it teaches by, beside plain transcriptions."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.spair_tree import write_tree
from helpers.tiny import tiny_module
from lightning import Trainer

from geoalign.bank import PlainBank
from geoalign.callbacks.averaging import AverageWeights
from geoalign.data.batch.samplers import CliqueSampler
from geoalign.data.batch.views import PixelLoader
from geoalign.data.datamodule import Connection, PairDataModule
from geoalign.data.readers.spair import SPair71k
from geoalign.losses import Cosine, DenseLoss, DistilLoss, Moment, WeightedSum
from geoalign.losses.distil import Mined
from geoalign.losses.miner import Flow, Pair, agrees_with_keypoints, comes_back, mutual_neighbours, piecewise_affine
from geoalign.matching import Matcher
from geoalign.refiner import Aggregation
from geoalign.refiner.teacher import Teacher
from geoalign.types import KINDS


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def a_grid(side):
    return np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2).astype(float)


def a_pair(seed=0, side=5, noise=0.4):
    rng = np.random.default_rng(seed)
    src = unit(rng.standard_normal((side * side, 8)))
    trg = unit(src[rng.permutation(len(src))] + noise * rng.standard_normal(src.shape) / 8**0.5)
    return Pair(src, trg, a_grid(side), a_grid(side))


@pytest.mark.parametrize("ratio", [0.6, 1.0])
@pytest.mark.parametrize("noise", [0.2, 1.5])
def test_mutual_neighbours(ratio, noise):
    pair = a_pair(noise=noise)
    expected = []
    for i, one in enumerate(pair.src):
        scores = [float(one @ other) for other in pair.trg]
        j = int(np.argmax(scores))
        back = int(np.argmax([float(other @ pair.trg[j]) for other in pair.src]))
        away = [s for s, xy in zip(scores, pair.trg_xy, strict=True) if np.abs(xy - pair.trg_xy[j]).max() > 1]
        if back == i and 1 - scores[j] <= ratio * (1 - max(away)):
            expected.append((i, j))
    got = mutual_neighbours(pair, ratio)
    assert list(zip(*(ends.tolist() for ends in got), strict=True)) == expected
    assert expected


def test_a_flow_is_one_affine_map_per_triangle():
    """A square of two triangles, one corner pulled away: each side of the diagonal follows its own three corners."""
    src = np.array([[0.0, 0], [4, 0], [0, 4], [4.1, 4]])
    trg = np.array([[0.0, 0], [4, 0], [0, 4], [8.1, 6]])
    flow = piecewise_affine(src, trg, a_grid(6))
    assert len(flow.src_xy) == 25, "nothing outside the hull"
    for (x, y), there in zip(*flow, strict=True):
        if x + y <= 4:
            np.testing.assert_allclose(there, (x, y))
        else:  # x, y = a·(4, 0) + b·(0, 4) + c·(4.1, 4), a + b + c = 1
            a, b, c = np.linalg.solve(np.array([[4, 0, 4.1], [0, 4, 4], [1, 1, 1]]), np.array([x, y, 1]))
            np.testing.assert_allclose(there, a * trg[1] + b * trg[2] + c * trg[3])
    assert not len(piecewise_affine(src[:2], trg[:2], a_grid(6)).src_xy), "two anchors are no triangle"
    assert not len(piecewise_affine(src[[0, 0, 1]], trg[[0, 0, 1]], a_grid(6)).src_xy), "nor are three in a line"


def test_keypoints_confirm_a_part_of_a_flow_or_do_not():
    """Upper half moves right by 3, lower half down by 5: keypoints agree with the one, not with the other."""
    src = a_grid(8)
    upper = src[:, 1] < 4
    flow = Flow(src, src + np.where(upper[:, None], [3.0, 0.0], [0.0, 5.0]))
    points = np.array([[1.0, 1.0], [5.0, 2.0], [2.0, 6.0], [6.0, 6.0]])
    truths = points + np.array([[3.0, 0.0], [3.0, 0.0], [20.0, 0.0], [0.0, 5.0]])
    truths[3] += 20
    kept = agrees_with_keypoints(flow, points, truths, clusters=2, reach=1.5)
    assert kept[upper].all()
    assert not kept[~upper].any()
    assert not agrees_with_keypoints(flow, points[:2], truths[:2], 2, 1.5)[~upper].any(), "no keypoint, no trust"
    still = Flow(src, src.copy())
    assert agrees_with_keypoints(still, points, points, clusters=7, reach=1.5).all()


def test_the_way_back():
    pair = a_pair(noise=0.1)
    best = (pair.src @ pair.trg.T).argmax(1)
    flow = Flow(pair.src_xy, pair.trg_xy[best])
    back = np.array([(pair.trg[j] @ pair.src.T).argmax() for j in best])
    expected = np.linalg.norm(pair.src_xy[back] - pair.src_xy, axis=1) <= 1.0
    np.testing.assert_array_equal(comes_back(pair, flow, 1.0), expected)
    assert not comes_back(pair, Flow(flow.src_xy[:1], flow.trg_xy[-1:]), 0.5).all()


SIDE, FRAME = 12, 120


def a_batch(rows=2):
    """Views that show the same, moved right by two cells from one to the next; three keypoints that say so."""
    xy = torch.tensor([[35.0, 35.0], [65.0, 45.0], [45.0, 75.0]]).repeat(rows, 1, 1)
    seen = torch.ones(rows, 3, dtype=torch.bool)
    masks = torch.zeros(3, 24, 24, dtype=torch.bool)
    masks[:, 2:22, 2:22] = True
    return {
        "views": {"masks": masks},
        "src": torch.tensor([0, 1])[:rows],
        "trg": torch.tensor([1, 2])[:rows],
        "src_xy_px": xy,
        "trg_xy_px": xy + torch.tensor([20.0, 0.0]),
        "src_visible": seen,
        "trg_visible": seen,
        "visible": seen,
        "kind": torch.full((rows,), KINDS.index("plain")),
        "count": torch.ones(rows),
        "pair_id": ["a", "b"][:rows],
    }


def moved_views():
    wide = F.normalize(torch.randn(16, SIDE, SIDE + 4, generator=torch.Generator().manual_seed(0)), dim=0)
    return torch.stack([wide[:, :, 4 - 2 * i : 4 - 2 * i + SIDE] for i in range(3)])


@pytest.mark.parametrize("agree", ["keypoints", "cycle"])
def test_the_miner_finds_how_the_picture_moved(agree):
    batch, bank = a_batch(), PlainBank(moved_views(), FRAME)
    mined = DistilLoss(agree=agree, matches=30, least=20, ratio=0.5).mine(bank, batch, step=3)
    assert mined.row.tolist() == [0] * 30 + [1] * 30
    torch.testing.assert_close(mined.trg_xy_px - mined.src_xy_px, torch.tensor([20.0, 0.0]).expand(60, 2))
    again = DistilLoss(agree=agree, matches=30, least=20, ratio=0.5).mine(bank, batch, step=3)
    assert torch.equal(mined.src_xy_px, again.src_xy_px)
    other = DistilLoss(agree=agree, matches=30, least=20, ratio=0.5).mine(bank, batch, step=4)
    assert not torch.equal(mined.src_xy_px, other.src_xy_px)


@pytest.mark.parametrize("agree", ["keypoints", "cycle"])
def test_a_finer_grid_moves_nothing_that_is_mined(agree):
    """``side`` lies between the features' cells and the head's: places are still those of the features' cells."""
    batch, views = a_batch(), moved_views()
    fine = PlainBank(views.repeat_interleave(2, 2).repeat_interleave(2, 3), FRAME, finer=2)
    term = DistilLoss(agree=agree, matches=30, least=20, ratio=0.5, side=SIDE + 5)
    plain, finer = (term.mine(bank, batch, step=3) for bank in (PlainBank(views, FRAME), fine))
    assert len(finer.row) == 60
    for one, other in zip(plain, finer, strict=True):
        torch.testing.assert_close(one, other)


def test_what_agrees_with_nothing_or_is_little_teaches_nothing():
    batch, bank = a_batch(), PlainBank(moved_views(), FRAME)
    assert not len(DistilLoss(matches=300, least=200).mine(bank, batch, 0).row), "a subject has 100 cells"
    hidden = batch | {"visible": torch.zeros(2, 3, dtype=torch.bool)}
    assert not len(DistilLoss(matches=30, least=20).mine(bank, hidden, 0).row)
    assert len(DistilLoss(agree="cycle", matches=30, least=20).mine(bank, hidden, 0).row) == 60
    views = moved_views().requires_grad_()
    term = DistilLoss(least=300)
    loss = term(PlainBank(views, FRAME), batch, Moment(teacher=bank))
    loss.sum().backward()
    assert not loss.any()
    assert not views.grad.any()


def test_the_loss_and_its_gradient(monkeypatch):
    """Soft-argmax over the whole map in coordinates from −1 to 1, point by point; parts of a few points at once."""
    monkeypatch.setattr("geoalign.losses.distil.POINTS", 3)
    generator = torch.Generator().manual_seed(1)
    descriptors = F.normalize(torch.randn(3, 6, SIDE, SIDE, generator=generator), dim=1)
    points = [torch.randint(SIDE, (8, 2), generator=generator) * 10.0 + 5 for _ in range(2)]
    mined = Mined(torch.tensor([0, 0, 1, 1, 1, 0, 1, 1]), *points)
    term, batch = DistilLoss(temperature=0.2), a_batch()
    monkeypatch.setattr(term, "mine", lambda *_: mined)
    fast, slow = (descriptors.clone().requires_grad_() for _ in range(2))
    got = term(PlainBank(fast, FRAME), batch, Moment(teacher=PlainBank(descriptors, FRAME)))
    place = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    each = {0: [], 1: []}
    for row, src, trg in zip(mined.row.tolist(), *points, strict=True):
        x, y = ((src - 5) / 10).long().tolist()
        similarity = torch.einsum("c,chw->hw", F.normalize(slow[row][:, y, x], dim=0), slow[row + 1])
        weight = torch.softmax(similarity.flatten() / 0.2, 0).view(SIDE, SIDE)
        found = torch.stack([(weight.sum(0) * place).sum(), (weight.sum(1) * place).sum()])
        each[row].append((found - (trg / FRAME * 2 - 1)).norm())
    expected = torch.stack([torch.stack(values).mean() for values in each.values()])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    (got * torch.tensor([1.0, 2.0])).sum().backward()
    (expected * torch.tensor([1.0, 2.0])).sum().backward()
    torch.testing.assert_close(fast.grad, slow.grad, rtol=1e-3, atol=1e-6)


def test_the_teacher_is_the_average_of_the_weights_over_steps():
    """Decay by a schedule; the first step's weights as they are, as every average here begins."""
    torch.manual_seed(0)
    refiner = Aggregation((6,), grid=4, width=64, hidden=64)
    teacher, decay = Teacher(refiner), Cosine(0.5, 0.9, 0, 4, "steps")
    expected = None
    for step in range(5):
        with torch.no_grad():
            for parameter in refiner.parameters():
                parameter.add_(torch.randn_like(parameter))
        state = copy.deepcopy(refiner.state_dict())
        teacher.follow(refiner, decay.at(step, None))
        d = decay.at(step, None)
        expected = state if expected is None else {k: d * expected[k] + (1 - d) * v for k, v in state.items()}
    got = teacher.average.module.state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not teacher.train().average.module.training


def taught(seed=0):
    torch.manual_seed(seed)
    module = tiny_module()
    distil = DistilLoss(agree="cycle", matches=20, least=3, decay=Cosine(0.5, 0.9))
    loss = WeightedSum({"plain": 1.0, "double": 1.0}, dense=DenseLoss(Matcher(radius=2)), distil=distil)
    return type(module)(
        module.refiner, module.matcher, module.backbone, loss, optimizer=lambda p: torch.optim.AdamW(p, lr=1e-2)
    )


def fit(root, module, epochs, path=None, callbacks=()):
    source = SPair71k(root)
    data = PairDataModule(source, {}, {}, lambda pairs: CliqueSampler(pairs, size=3, batches=2))
    data.connect(Connection(PixelLoader((64,)), tuple(module.loss.kinds), train_mask_side=module.loss.mask_side))
    runner = Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, limit_val_batches=0, callbacks=list(callbacks),
    )  # fmt: skip
    runner.fit(module, data, ckpt_path=path, weights_only=True)
    return runner


@pytest.mark.parametrize("averaged", [False, True])
def test_a_run_that_goes_on_is_the_run_that_never_stopped(tmp_path, averaged):
    """Weights and teacher bit for bit; the teacher is kept, too, where weights are averaged to be evaluated."""
    write_tree(tmp_path / "spair")
    callbacks = lambda: [AverageWeights(decay=0.5)] if averaged else []  # noqa: E731
    whole, first, second = taught(), taught(), taught(seed=1)
    for module in (whole, first, second):
        module.loss.terms["distil"].teacher_decay = Cosine(0.5, 0.9, 0, 8, "steps")
        module.loss.check_steps = lambda steps: None
    fit(tmp_path / "spair", whole, 2, callbacks=callbacks())
    fit(tmp_path / "spair", first, 1, callbacks=callbacks()).save_checkpoint(tmp_path / "x.ckpt")
    kept = torch.load(tmp_path / "x.ckpt", weights_only=True)["state_dict"]
    assert {name.split(".")[0] for name in kept} == {"refiner", "teacher"}
    fit(tmp_path / "spair", second, 2, tmp_path / "x.ckpt", callbacks=callbacks())
    assert int(whole.teacher.average.n_averaged) == int(second.teacher.average.n_averaged) == 4
    if averaged:  # a fit that has ended has put the average in the place of its weights
        return
    for (name, one), other in zip(whole.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    start = taught().teacher.parameters()
    assert not all(torch.equal(a, b) for a, b in zip(whole.teacher.parameters(), start, strict=True))


def test_a_teacher_begins_with_the_weights_that_training_starts_from():
    module = taught()
    with torch.no_grad():
        module.refiner.mixing_weights.add_(1.0)
    module.on_fit_start()
    assert torch.equal(module.teacher.average.module.mixing_weights, module.refiner.mixing_weights)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agree": "votes"}, "keypoints or cycle"),
        ({"source": "nearest"}, "bilinear or floor"),
        ({"decay": 1.0}, "0 < decay < 1"),
        ({"decay": Cosine(0.9, 1.0)}, "0 < decay < 1"),
        ({"ratio": 0.0}, "0 < ratio"),
        ({"temperature": 0.0}, "above 0"),
        ({"matches": 50}, "least <= matches"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DistilLoss(**options)


def test_what_is_missing_is_named():
    bank, batch = PlainBank(moved_views(), FRAME), a_batch()
    with pytest.raises(ValueError, match="needs a teacher's bank"):
        DistilLoss()(bank, batch)
    with pytest.raises(ValueError, match="no masks"):
        DistilLoss()(bank, batch | {"views": {}}, Moment(teacher=bank))
    loss = WeightedSum({"plain": 1.0}, distil=DistilLoss(decay=Cosine(0.99, 0.9995, 0, 50, "steps")))
    with pytest.raises(ValueError, match=r"loss.distil.decay arrives at step 50, training has 10 steps"):
        loss.check_steps(10)
