"""Released losses, all kinds of row, values and gradients."""

import pytest
import torch
from helpers.golden import MAPS, load_arrays

from geoalign.bank import PlainBank
from geoalign.geometry import flip_points
from geoalign.losses import DenseLoss, Moment, SparseLoss, WeightedSum
from geoalign.matching import Matcher
from geoalign.types import KINDS

ROWS = {"plain": (0, 1), "single": (2, 1), "double": (2, 3), "self": (2, 0)}
RELEASED = {"plain": 1.0, "single": 1.0, "double": 1.0, "self": 0.25}


def _load(compact, category):
    data = load_arrays(f"losses_{category}", compact)
    blank = torch.zeros_like(data["source"])  # for a map that the compact set has not
    bank = torch.stack([data.get(view, blank).T.reshape(-1, 60, 60) for view in MAPS]).requires_grad_()
    points = {}
    for view, end in (("source", 0), ("target", 1)):
        xy, seen = data[f"{view}_keypoints"][:, :2], data[f"{view}_keypoints"][:, 2] > 0
        permutation = data["flip_permutation"]
        slots = len(permutation)  # later slots are absent in the flipped set
        flipped_xy, flipped_seen = torch.zeros_like(xy), torch.zeros_like(seen)
        flipped_xy[:slots], flipped_seen[:slots] = flip_points(xy)[permutation], seen[permutation]
        points[end], points[end + 2] = (xy, seen), (flipped_xy, flipped_seen)
    return data, bank, points


def _batch(points, kinds):
    src, trg = zip(*(ROWS[k] for k in kinds), strict=True)
    stack = lambda ends, i: torch.stack([points[e][i] for e in ends])  # noqa: E731
    return {
        "src": torch.tensor(src),
        "trg": torch.tensor(trg),
        "src_xy_px": stack(src, 0),
        "trg_xy_px": stack(trg, 0),
        "visible": stack(src, 1) & stack(trg, 1),
        "kind": torch.tensor([KINDS.index(k) for k in kinds]),
        "count": torch.ones(len(kinds)),
    }


def _loss(radius):
    dense = DenseLoss(Matcher(radius=radius, outside="zero", source="floor"), target="released", label_noise=0)
    return WeightedSum(RELEASED, sparse=SparseLoss(source="floor"), dense=dense)


@pytest.mark.parametrize("category", ["cat", "bus"])
@pytest.mark.parametrize("radius", [0, 7])
def test_released_values(compact, category, radius):
    data, bank, points = _load(compact, category)
    loss, scale = _loss(radius), data["logit_scale"][0]
    plain = loss(PlainBank(bank), _batch(points, ["plain"]), Moment(scale))
    torch.testing.assert_close(plain.parts["sparse"], data["sparse"][0], rtol=1e-4, atol=0)
    torch.testing.assert_close(plain.mean, data[f"sparse_plus_dense_window_{radius}"][0], rtol=1e-4, atol=0)
    if not compact:
        total = loss(PlainBank(bank), _batch(points, list(ROWS)), Moment(scale))
        torch.testing.assert_close(total.mean, data[f"total_window_{radius}"][0], rtol=1e-4, atol=0)


@pytest.mark.parametrize("category", ["cat", "bus"])
def test_released_gradients(compact, category):
    data, bank, points = _load(compact, category)
    _loss(0)(PlainBank(bank), _batch(points, list(ROWS)), Moment(data["logit_scale"][0])).mean.backward()
    cells = data["gradient_cells"] if compact else slice(None)
    for gradient, view in list(zip(bank.grad, MAPS, strict=True))[: 2 if compact else 4]:
        expected = data[f"total_window_0_grad_{view}"]
        error = (gradient.flatten(1).T[cells] - expected).norm() / expected.norm()
        assert error < 1e-5, f"gradient of {view}: relative error {error:.1e}"
