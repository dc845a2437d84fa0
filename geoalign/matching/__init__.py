"""Matching: read-outs, keypoint transfer, pose alignment and methods of prediction, as pure functions of a bank."""

from geoalign.matching.confidence import Confidence
from geoalign.matching.methods import Aligned, Method, Plain
from geoalign.matching.transfer import Matcher, transfer
from geoalign.matching.twice import Twice

__all__ = ["Aligned", "Confidence", "Matcher", "Method", "Plain", "Twice", "transfer"]
