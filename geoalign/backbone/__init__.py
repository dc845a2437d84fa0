"""Frozen feature networks; imported when first asked for, so that the package itself stays light."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoalign.backbone.base import Backbone
    from geoalign.backbone.diffusion.backbone import StableDiffusion
    from geoalign.backbone.dino import Dino
    from geoalign.backbone.fusion import Fusion
    from geoalign.backbone.lite import Lite
    from geoalign.backbone.transformers_generic import TransformersVision

__all__ = ["Backbone", "Dino", "Fusion", "Lite", "StableDiffusion", "TransformersVision"]

_HOMES = {
    "Backbone": "base",
    "Dino": "dino",
    "Fusion": "fusion",
    "Lite": "lite",
    "StableDiffusion": "diffusion.backbone",
    "TransformersVision": "transformers_generic",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
