"""The store's number formats: what is lost is bounded, and what cannot be stored shows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geoalign.backbone.store import dequantize, quantize
from geoalign.backbone.store.codec import decode, decode_into, empty, encode, is_finite

maps = hnp.arrays(
    "float32",
    hnp.array_shapes(min_dims=3, max_dims=3, max_side=6),
    elements=st.floats(-(2.0**60), 2.0**60, width=32),
).map(torch.from_numpy)
HALF_ULP = {"fp32": 0.0, "fp16": 2.0**-11, "bf16": 2.0**-8}


@given(maps)
@settings(max_examples=100, deadline=None)
def test_int8_is_within_half_a_step(x: torch.Tensor) -> None:
    codes, scale, offset = quantize(x)
    error = (dequantize(codes, scale, offset) - x).abs().flatten(1).amax(1)
    largest = x.abs().flatten(1).amax(1)
    # What float32 itself cannot express of the largest value comes on top.
    assert (error <= scale / 2 + 4 * torch.finfo(torch.float32).eps * largest + 255 * torch.finfo().tiny).all()


def test_int8_uses_each_channels_own_range() -> None:
    x = torch.randn(16, 9, 9) * torch.logspace(-3, 3, 16)[:, None, None] + 5.0
    codes, scale, _ = quantize(x)
    assert (codes.flatten(1).amin(1) == -128).all()
    assert (codes.flatten(1).amax(1) == 127).all()
    torch.testing.assert_close(scale * 255, x.flatten(1).amax(1) - x.flatten(1).amin(1))


@given(st.floats(-(2.0**100), 2.0**100, width=32))
def test_a_constant_channel_is_exact_in_int8(value: float) -> None:
    x = torch.full((1, 3, 3), value)
    assert torch.equal(dequantize(*quantize(x)), x)


def test_long_maps_are_dequantised_in_blocks_to_the_same_numbers() -> None:
    x = torch.randn(300, 40, 40)  # more than one block
    codes, scale, offset = quantize(x)
    torch.testing.assert_close(
        dequantize(codes, scale, offset), codes.float() * scale[:, None, None] + offset[:, None, None]
    )


@given(maps, st.sampled_from(sorted(HALF_ULP)))
@settings(max_examples=100, deadline=None)
def test_floats_lose_only_their_rounding(x: torch.Tensor, precision: str) -> None:
    x = x.clamp(-6e4, 6e4)
    back = decode(encode(x, precision))
    assert ((back - x).abs() <= HALF_ULP[precision] * x.abs() + 2.0**-24).all()
    assert is_finite(encode(x, precision))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_shows(precision: str, value: float) -> None:
    x = torch.zeros(2, 3, 3)
    x[1, 2, 0] = value
    assert not is_finite(encode(x, precision))


def test_encoding_owns_its_memory() -> None:
    x = torch.ones(2, 3, 3)
    encoded = encode(x, "fp32")
    x.zero_()
    assert encoded.codes.min() == 1


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_decoding_in_place_equals_decoding(precision: str, dtype: torch.dtype) -> None:
    encoded = encode(torch.randn(5, 4, 4), precision)
    out = empty((5, 4, 4), dtype, torch.device("cpu"))
    decode_into(out, encoded)
    assert torch.equal(out, decode(encoded, dtype))
    assert out.dtype == dtype
