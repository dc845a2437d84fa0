"""Refiners: frozen maps in, unit descriptors on the grid out."""

from geoalign.refiner.aggregation import Aggregation
from geoalign.refiner.identity import Identity

__all__ = ["Aggregation", "Identity"]
