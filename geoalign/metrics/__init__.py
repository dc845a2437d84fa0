"""Metrics: torchmetrics classes over pure functions; every state is a sum of integers."""

from geoalign.metrics.pck import PCK as PCK
from geoalign.metrics.pck import PckResult as PckResult
from geoalign.metrics.pck import Score as Score
