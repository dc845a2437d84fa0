"""Matching: similarity, read-outs, keypoint transfer and pose alignment, as pure functions."""

from geoalign.matching.transfer import Matcher, transfer

__all__ = ["Matcher", "transfer"]
