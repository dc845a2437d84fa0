"""Synthetic benchmark: ray-cast animals and cars whose left and right look alike, with exact truth."""
