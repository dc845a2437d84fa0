"""Golden tests run on the compact set in ``data/`` and, where it lies beside the project, on the full one."""

from __future__ import annotations

import pytest
from helpers.golden import SHARED

FULL = SHARED / "golden"


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(True, id="compact"),
        pytest.param(False, id="full", marks=pytest.mark.skipif(not FULL.is_dir(), reason=f"no full set in {FULL}")),
    ],
)
def compact(request: pytest.FixtureRequest) -> bool:
    """Which set a test reads."""
    return bool(request.param)
