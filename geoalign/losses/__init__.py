"""Losses: unweighted means per row, and the one weighted sum of them."""

from geoalign.losses.base import Moment, Term
from geoalign.losses.dense import DenseLoss
from geoalign.losses.distil import DistilLoss
from geoalign.losses.gaussian import GaussianLoss
from geoalign.losses.mirror import MirrorLoss
from geoalign.losses.schedule import Cosine
from geoalign.losses.sparse import SparseLoss
from geoalign.losses.transport import TransportLoss
from geoalign.losses.weighted import Total, WeightedSum

__all__ = [
    "Cosine", "DenseLoss", "DistilLoss", "GaussianLoss", "MirrorLoss", "Moment", "SparseLoss", "Term", "Total",
    "TransportLoss", "WeightedSum",
]  # fmt: skip
