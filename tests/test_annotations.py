"""Annotations are checked in every test: a wrong shape, element type or setting is refused before any code runs."""

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from geoalign.data.readers.tss import TSS
from geoalign.matching.readout import argmax
from geoalign.matching.transfer import Matcher


def test_wrong_shapes_are_refused() -> None:
    argmax(torch.zeros(2, 3, 3))
    for wrong in (torch.zeros(3), torch.zeros(2, 3, 3, dtype=torch.int64), np.zeros((2, 3, 3))):
        with pytest.raises(TypeCheckError, match=r"parameters of geoalign\.matching\.readout\.argmax"):
            argmax(wrong)


def test_wrong_types_are_refused() -> None:
    Matcher(temperature=1)  # a whole number is a float
    with pytest.raises(TypeCheckError, match="readout"):
        Matcher(readout="best")
    with pytest.raises(TypeCheckError, match="split"):
        TSS("anywhere", split=3)


@pytest.mark.unchecked
def test_what_a_user_meets() -> None:
    with pytest.raises(ValueError, match="readout"):
        Matcher(readout="best")
