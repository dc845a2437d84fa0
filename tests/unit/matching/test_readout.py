"""From similarity maps to points: shifts, flips, windows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoalign.matching.readout import argmax, kernel_soft_argmax, soft_argmax, window_soft_argmax

READOUTS = {
    "argmax": argmax,
    "soft": soft_argmax,
    "window": lambda s: window_soft_argmax(s, radius=2),
    "window zero": lambda s: window_soft_argmax(s, radius=2, outside="zero"),
    "kernel": lambda s: kernel_soft_argmax(s, sigma=1.5),
}
each_readout = pytest.mark.parametrize("name", READOUTS)


def bump(x, y, h=15, w=17, height=1.0):
    """A map with one smooth peak."""
    ys, xs = torch.meshgrid(torch.arange(h, dtype=torch.float64), torch.arange(w, dtype=torch.float64), indexing="ij")
    return height * torch.exp(-((xs - x) ** 2 + (ys - y) ** 2) / 4)


@each_readout
@settings(max_examples=20, deadline=None)
@given(dx=st.integers(-3, 3), dy=st.integers(-3, 3))
def test_shifting_the_map_shifts_the_answer(name, dx, dy):
    read = READOUTS[name]
    moved = read(bump(8.3 + dx, 7.2 + dy)) - read(bump(8.3, 7.2))
    torch.testing.assert_close(moved, torch.tensor([dx, dy], dtype=torch.float64), rtol=0, atol=1e-3)


@each_readout
def test_flipping_the_map_flips_the_answer(name):
    similarity = bump(5.3, 9.7)
    there, mirrored = READOUTS[name](similarity), READOUTS[name](similarity.flip(-1))
    torch.testing.assert_close(mirrored, torch.stack([16 - there[0], there[1]]), rtol=0, atol=1e-9)


@each_readout
def test_transposing_the_map_swaps_x_and_y(name):
    similarity = bump(5.3, 9.7)
    torch.testing.assert_close(READOUTS[name](similarity.T), READOUTS[name](similarity).flip(-1))


@each_readout
def test_leading_dimensions_are_kept(name):
    maps = torch.stack([bump(3, 4), bump(9, 2), bump(12, 11)]).view(3, 1, 15, 17).expand(3, 2, -1, -1)
    found = READOUTS[name](maps)
    assert found.shape == (3, 2, 2)
    torch.testing.assert_close(found[1, 0], READOUTS[name](bump(9, 2)))


def test_excluding_equals_minus_infinity_outside_the_window():
    torch.manual_seed(0)
    similarity, radius = torch.rand(40, 9, 11), 3
    peak = argmax(similarity)
    ys, xs = torch.meshgrid(torch.arange(9), torch.arange(11), indexing="ij")
    far = (xs - peak[:, None, None, 0]).abs().maximum((ys - peak[:, None, None, 1]).abs()) > radius
    expected = soft_argmax(similarity.masked_fill(far, -torch.inf))
    torch.testing.assert_close(window_soft_argmax(similarity, radius), expected)


def test_zeros_outside_leak_mass_where_the_peak_is_low():
    """docs/protocol.md#matcher: about 13 % of the mass at a peak of 0.2, none at 0.6."""
    far = []
    for height in (0.2, 0.6):
        similarity = torch.zeros(60, 60)
        similarity[25:36, 5:16] = height
        similarity[30, 10] = height + 1e-4
        clean, leaky = (window_soft_argmax(similarity, 7, outside=o)[0] for o in ("exclude", "zero"))
        far.append(float((leaky - clean).abs()))
    assert far[0] > 0.01
    assert far[1] < 1e-6


def test_a_window_over_the_whole_map_is_the_soft_argmax():
    similarity = torch.rand(5, 7, 7)
    for radius in (0, 7):
        torch.testing.assert_close(window_soft_argmax(similarity, radius), soft_argmax(similarity))


def test_a_window_at_the_border_holds_only_cells_of_the_map():
    similarity = torch.zeros(8, 8)
    similarity[0, 0] = 1.0
    torch.testing.assert_close(
        window_soft_argmax(similarity, 3, temperature=1e3), torch.tensor([1.5, 1.5]), atol=1e-2, rtol=0
    )


@pytest.mark.parametrize("name", [n for n in READOUTS if n != "argmax"])
def test_the_gradient_pulls_the_answer_along(name):
    similarity = bump(8, 7).requires_grad_()
    READOUTS[name](similarity)[0].backward()
    assert similarity.grad[7, 9] > 0 > similarity.grad[7, 7]


@pytest.mark.unchecked
def test_wrong_settings_are_told():
    with pytest.raises(ValueError, match="radius is >= 0"):
        window_soft_argmax(torch.zeros(3, 3), radius=-1)
    with pytest.raises(ValueError, match="exclude or zero"):
        window_soft_argmax(torch.zeros(3, 3), outside="ignore")
