"""Losses: unweighted means per row, and the one weighted sum of them."""

from geoalign.losses.dense import DenseLoss
from geoalign.losses.sparse import SparseLoss
from geoalign.losses.weighted import Total, WeightedSum

__all__ = ["DenseLoss", "SparseLoss", "Total", "WeightedSum"]
