"""The feature store: frozen features on disk, once per image and pose."""

from geoalign.backbone.store.codec import Precision, dequantize, quantize
from geoalign.backbone.store.identity import StoreError
from geoalign.backbone.store.keys import image_hash, view_key
from geoalign.backbone.store.space import ensure_space, estimate_bytes
from geoalign.backbone.store.store import FeatureStore

__all__ = [
    "FeatureStore",
    "Precision",
    "StoreError",
    "dequantize",
    "ensure_space",
    "estimate_bytes",
    "image_hash",
    "quantize",
    "view_key",
]
