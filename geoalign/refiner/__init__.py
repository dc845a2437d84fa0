"""Refiners: frozen maps in, unit descriptors on the grid out; imported when first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoalign.refiner.aggregation import Aggregation
    from geoalign.refiner.base import Refiner
    from geoalign.refiner.blend import Blend
    from geoalign.refiner.checkpoint import load_released
    from geoalign.refiner.heads.external import ExternalHead
    from geoalign.refiner.heads.field import FieldHead
    from geoalign.refiner.heads.upsample import UpsampleHead
    from geoalign.refiner.identity import Identity
    from geoalign.refiner.tail import Tail

__all__ = [
    "Aggregation", "Blend", "ExternalHead", "FieldHead", "Identity", "Refiner", "Tail", "UpsampleHead", "load_released",
]  # fmt: skip

_HOMES = {
    "Aggregation": "aggregation", "Blend": "blend", "Identity": "identity", "Refiner": "base",
    "ExternalHead": "heads.external", "FieldHead": "heads.field", "Tail": "tail",
    "UpsampleHead": "heads.upsample", "load_released": "checkpoint",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
