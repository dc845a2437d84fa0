"""Callbacks decide when; how is a pure function elsewhere."""

from geoalign.callbacks.interruption import Interruption
from geoalign.callbacks.pose_alignment import PoseAlignment
from geoalign.callbacks.results import Results

__all__ = ["Interruption", "PoseAlignment", "Results"]
