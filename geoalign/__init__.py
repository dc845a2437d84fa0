"""Geometry-aware semantic correspondence: frozen features, a small refiner, numbers that can be trusted."""

__version__ = "0.1.0"
