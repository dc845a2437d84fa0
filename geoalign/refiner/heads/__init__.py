"""Heads: refiners around a refiner that make its grid finer; imported when first asked for, by ``geoalign.refiner``."""
