"""Every fast path equals the transcription of its formula: values and gradients, whatever the batch."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import inputs
from benchmarks import transcription as plain
from geoalign.bank import PlainBank
from geoalign.losses import DenseLoss, Moment, SparseLoss, WeightedSum
from geoalign.matching import Matcher, transfer
from geoalign.matching.pose import masked_distance, mutual_distance, pose_distances
from geoalign.refiner import Aggregation
from geoalign.types import KINDS

SMALL = inputs.Sizes(cells=7, channels=(6, 10), map_cells=(7, 4), width=16, slots=4, frame_px=98)
FEW = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 2**20)
DTYPES = st.sampled_from([torch.float32, torch.bfloat16])
SMOOTH = st.builds(
    Matcher,
    readout=st.sampled_from(["soft", "window", "kernel"]),
    radius=st.integers(0, 4),
    temperature=st.sampled_from([0.02, 0.1]),
    outside=st.sampled_from(["exclude", "zero"]),
    source=st.sampled_from(["bilinear", "floor"]),
    frame_px=st.just(98),
)
MATCHERS = SMOOTH | st.builds(replace, SMOOTH, readout=st.just("argmax"))
KIND_OF_ROW = st.sampled_from(KINDS[:4])
VISIBILITY = st.sampled_from(["some", "first row empty", "none"])


@st.composite
def row_lists(draw, views):
    """Rows in any order, kinds and counts; views may be met often or never."""
    view = st.integers(0, views - 1)
    return draw(st.lists(st.tuples(view, view, KIND_OF_ROW), min_size=1, max_size=6))


def hidden(batch, visibility):
    """The batch with none, one or all of its rows emptied."""
    if visibility != "some":
        batch["visible"][: 1 if visibility == "first row empty" else None] = False
    return batch


def close_gradient(got, leaves, dtype, tolerance=1e-3):
    """The gradient of a bank beside those of its views one by one, as a whole."""
    expected = torch.stack([torch.zeros_like(v) if v.grad is None else v.grad for v in leaves])
    error = (got.float() - expected).norm() / expected.norm().clamp(min=1e-3)
    assert error < (tolerance if dtype == torch.float32 else 1e-2), f"relative error of the gradient: {error:.1e}"


def a_bank(seed, views, dtype=torch.float32, channels_last=True, sizes=SMALL):
    found = inputs.bank(views, sizes, seed).to(dtype)
    return found if channels_last else found.contiguous()


def close(got, expected, tolerance=1e-4):
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@FEW
@given(SEEDS, st.integers(4, 9), st.integers(2, 5), DTYPES, st.booleans(), MATCHERS, VISIBILITY, st.data())
def test_transfer(seed, cells, views, dtype, channels_last, matcher, visibility, data):
    sizes = replace(SMALL, cells=cells)
    rows = data.draw(row_lists(views))
    batch = hidden(inputs.batch(rows, [1.0] * len(rows), sizes, seed), visibility)
    bank = a_bank(seed, views, dtype, channels_last, sizes)
    got = transfer(PlainBank(bank, 98), batch["src"], batch["trg"], batch["src_xy_px"], matcher, batch["visible"])
    for i, (src, trg, _) in enumerate(rows):
        seen = batch["visible"][i]
        assert not got.xy_px[i][~seen].any()
        assert not got.score[i][~seen].any()
        if not seen.any():
            continue
        xy_px, score = plain.transfer(bank[src].float(), bank[trg].float(), batch["src_xy_px"][i][seen], matcher)
        close(got.score[i][seen], score)
        close(got.xy_px[i][seen], xy_px, 1e-2)


@FEW
@given(SEEDS, st.integers(2, 4), DTYPES, st.booleans(), SMOOTH, VISIBILITY, st.data())
def test_gradient_of_transfer(seed, views, dtype, channels_last, matcher, visibility, data):
    rows = data.draw(row_lists(views))
    batch = hidden(inputs.batch(rows, [1.0] * len(rows), SMALL, seed), visibility)
    bank = a_bank(seed, views, dtype, channels_last).requires_grad_()
    leaves = [view.detach().float().requires_grad_() for view in bank]
    weight = torch.randn(batch["trg_xy_px"].shape)
    got = transfer(PlainBank(bank, 98), batch["src"], batch["trg"], batch["src_xy_px"], matcher, batch["visible"]).xy_px
    (got * weight).sum().backward()
    for i, (src, trg, _) in enumerate(rows):
        seen = batch["visible"][i]
        if seen.any():
            found, _ = plain.transfer(leaves[src], leaves[trg], batch["src_xy_px"][i][seen], matcher)
            (found * weight[i][seen]).sum().backward()
    close_gradient(bank.grad, leaves, dtype)


@FEW
@given(SEEDS, DTYPES, st.booleans(), st.sampled_from([None, 5, 8, 11]), st.floats(0, 0.9), st.floats(0, 0.9))
def test_masked_distance(seed, dtype, channels_last, grid, src_share, trg_share):
    source, target = a_bank(seed, 2, dtype, channels_last)
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(2, 14, 14, generator=generator) < torch.tensor([src_share, trg_share]).view(2, 1, 1)
    same_distance(
        lambda a, b: masked_distance(a, b, masks[0], masks[1], grid),
        source,
        target,
        lambda a, b: plain.masked_distance(a, b, masks[0], masks[1], grid),
    )


def same_distance(fast, source, target, slow):
    """Value and gradient of a distance between two views."""
    bank = torch.stack([source, target]).requires_grad_()
    leaves = [view.detach().float().requires_grad_() for view in bank]
    got, expected = fast(*bank), slow(*leaves)
    close(got.detach(), expected.detach())
    got.backward()
    expected.backward()
    close_gradient(bank.grad, leaves, bank.dtype)


@FEW
@given(SEEDS, DTYPES, st.booleans(), st.integers(0, 20))
def test_mutual_distance(seed, dtype, channels_last, border):
    source, target = a_bank(seed, 2, dtype, channels_last).clone()
    source.flatten(1)[:, :border] = source[:, :1, 0].clone()  # equal cells, as in the black of a letterbox
    target.flatten(1)[:, -border:] = source[:, :1, 0].clone()
    close(mutual_distance(source, target), plain.mutual_distance(source.float(), target.float()))


@FEW
@given(SEEDS, DTYPES, st.booleans())
def test_gradient_of_mutual_distance(seed, dtype, channels_last):
    source, target = a_bank(seed, 2, dtype, channels_last)
    same_distance(mutual_distance, source, target, plain.mutual_distance)


@FEW
@given(SEEDS, DTYPES, st.sampled_from(["masked", "mutual"]), st.data())
def test_pose_distances_of_a_batch(seed, dtype, kind, data):
    bank, masks = a_bank(seed, 4, dtype), inputs.blob_masks(4, 14, 0.4, seed)
    wide = bank.float()
    view = st.integers(0, 3)
    poses = torch.tensor(data.draw(st.lists(st.tuples(view, view), min_size=1, max_size=4)))
    trg = torch.tensor(data.draw(st.lists(view, min_size=len(poses), max_size=len(poses))))
    got = pose_distances(PlainBank(bank), poses, trg, masks, kind)
    for value, s, t in zip(got.flatten(), poses.flatten(), trg.repeat_interleave(2), strict=True):
        masked = plain.masked_distance(wide[s], wide[t], masks[s], masks[t], None)
        close(value, masked if kind == "masked" else plain.mutual_distance(wide[s], wide[t]))


def losses_of(matcher, target, sparse_source, terms, single):
    sparse = SparseLoss(sparse_source) if "sparse" in terms else None
    dense = DenseLoss(matcher, target) if "dense" in terms else None
    kinds = {"plain": 1.0, "single": single, "double": 1.0, "self": 0.25}
    return WeightedSum(kinds, {"dense": 0.5}, sparse=sparse, dense=dense)


@FEW
@given(
    SEEDS,
    st.integers(2, 4),
    DTYPES,
    st.booleans(),
    SMOOTH,
    st.sampled_from(["cell", "released"]),
    st.sampled_from(["bilinear", "floor"]),
    st.sampled_from([("sparse",), ("dense",), ("sparse", "dense")]),
    st.sampled_from([0.0, 1.0]),
    VISIBILITY,
    st.data(),
)
def test_losses(seed, views, dtype, channels_last, matcher, target, source, terms, single, visibility, data):
    rows = data.draw(row_lists(views))
    counts = [float(1 + (seed + i) % 3) for i in range(len(rows))]
    batch = hidden(inputs.batch(rows, counts, SMALL, seed), visibility)
    loss = losses_of(matcher, target, source, terms, single)
    bank = a_bank(seed, views, dtype, channels_last).requires_grad_()
    scale = torch.tensor(1.3, requires_grad=True)
    got = loss(PlainBank(bank, 98), batch, Moment(scale)).mean
    got.backward()

    leaves = [view.detach().float().requires_grad_() for view in bank]
    plain_scale = torch.tensor(1.3, requires_grad=True)
    expected = plain.total_loss(inputs.pair_rows(leaves, batch, 0.1, 98), loss, plain_scale)
    close(got.detach(), expected.detach())
    if expected.requires_grad:
        expected.backward()
    close_gradient(bank.grad, leaves, dtype)
    close(
        scale.grad if scale.grad is not None else scale * 0, 0 * scale if plain_scale.grad is None else plain_scale.grad
    )


@settings(max_examples=8, deadline=None)
@given(SEEDS, st.integers(1, 3), st.sampled_from([(7, 4), (7, 7), (3, 9)]), st.booleans())
def test_refiner(seed, views, map_cells, same_width):
    channels = (6, 32) if same_width else (6, 10)  # a map as wide as the output takes no projection
    sizes = replace(SMALL, channels=channels, map_cells=map_cells, width=32)
    maps = inputs.maps(views, sizes, seed)
    torch.manual_seed(seed)
    refiner = Aggregation(channels, sizes.cells, 32, hidden=32, dropout=0.0).train()
    weight = torch.randn(views, 32, sizes.cells, sizes.cells)
    got = refiner(maps)
    (got * weight).sum().backward()
    fast = {name: p.grad.clone() for name, p in refiner.named_parameters() if p.grad is not None}
    refiner.zero_grad()
    expected = torch.stack([plain.refine(refiner, [m[i] for m in maps]) for i in range(views)])
    (expected * weight).sum().backward()
    close(got, expected)
    for name, parameter in refiner.named_parameters():
        if parameter.grad is not None:
            error = (fast[name] - parameter.grad).norm() / parameter.grad.norm().clamp(min=1e-2)
            assert error < 1e-3, f"{name}: relative error {error:.1e}"


@settings(max_examples=8, deadline=None)
@given(SEEDS, st.integers(1, 3), st.booleans())
def test_refiner_in_bfloat16(seed, views, training):
    sizes = replace(SMALL, channels=(6, 32), width=32)
    maps = inputs.maps(views, sizes, seed)
    torch.manual_seed(seed)
    refiner = Aggregation(sizes.channels, sizes.cells, 32, hidden=32, dropout=0.0).train(training)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        got = refiner(maps)
    expected = torch.stack([plain.refine(refiner, [m[i] for m in maps]) for i in range(views)])
    error = (got.float() - expected).norm() / expected.norm()
    assert error < 3e-2, f"relative error: {error:.1e}"


@settings(max_examples=10, deadline=None)
@given(SEEDS, st.integers(2, 4), SMOOTH, VISIBILITY, st.data())
def test_training_step(seed, views, matcher, visibility, data):
    rows = data.draw(row_lists(views))
    sizes = replace(SMALL, channels=(6, 32), width=32)
    batch = hidden(inputs.batch(rows, [1.0] * len(rows), sizes, seed), visibility)
    maps, loss = inputs.maps(views, sizes, seed), losses_of(matcher, "cell", matcher.source, ("sparse", "dense"), 1.0)
    torch.manual_seed(seed)
    refiner = Aggregation(sizes.channels, sizes.cells, 32, hidden=32, dropout=0.0).train()
    loss(refiner.bank(maps, 98), batch, Moment(refiner.logit_scale)).mean.backward()
    fast = {name: p.grad.clone() for name, p in refiner.named_parameters() if p.grad is not None}
    refiner.zero_grad()
    banked = [plain.refine(refiner, [m[i] for m in maps]) for i in range(views)]
    total = plain.total_loss(inputs.pair_rows(banked, batch, 0.1, 98), loss, refiner.logit_scale)
    if not total.requires_grad:
        assert not any(gradient.any() for gradient in fast.values())
        return
    total.backward()
    for name, parameter in refiner.named_parameters():
        if parameter.grad is not None:
            error = (fast[name] - parameter.grad).norm() / parameter.grad.norm().clamp(min=1e-2)
            assert error < 2e-3, f"{name}: relative error {error:.1e}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_narrows_nothing(dtype):
    bank, scale = a_bank(0, 4, dtype), torch.tensor(3.0)
    batch, loss = inputs.single_pair(SMALL), inputs.loss(SMALL)
    bank = PlainBank(bank, 98)
    ends = (bank, batch["src"], batch["trg"], batch["src_xy_px"])
    poses = (bank, torch.tensor([[0, 1]]), torch.tensor([2]), inputs.blob_masks(4, 14))

    def answers():
        distances = [pose_distances(*poses, kind) for kind in ("masked", "mutual")]
        return [transfer(*ends, Matcher(frame_px=98)).xy_px, loss(bank, batch, Moment(scale)).sum, *distances]

    with torch.autocast("cpu", torch.bfloat16):
        inside = answers()
    for got, expected in zip(inside, answers(), strict=True):
        close(got, expected, 1e-6)
