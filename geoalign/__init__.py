"""Geometry-aware semantic correspondence: frozen features, a small refiner, numbers that can be trusted.

>>> import geoalign, numpy as np
>>> matcher = geoalign.load("lite")
>>> picture = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
>>> matcher.match(picture, picture, points=[(80, 60)]).pose
Pose(flip=False, degrees=0.0)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geoalign.version import __version__ as __version__

if TYPE_CHECKING:
    from geoalign.apps.loading import load as load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name != "load":
        raise AttributeError(f"module geoalign has no attribute {name}")
    from geoalign.apps.loading import load

    return load
