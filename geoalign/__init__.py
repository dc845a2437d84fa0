"""Geometry-aware semantic correspondence: frozen features, a small refiner, numbers that can be trusted.

>>> import geoalign, numpy as np
>>> matcher = geoalign.load("lite")
>>> picture = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
>>> matcher.match(picture, picture, points=[(80, 60)]).pose
Pose(flip=False, degrees=0.0)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geoalign.version import __version__ as __version__

if TYPE_CHECKING:
    from geoalign.apps.adapt import adapt as adapt
    from geoalign.apps.loading import load as load

HOMES = {"load": "geoalign.apps.loading", "adapt": "geoalign.apps.adapt"}
"""Where each public function lives."""
__all__ = list(HOMES)


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module geoalign has no attribute {name}")
    return getattr(import_module(HOMES[name]), name)
