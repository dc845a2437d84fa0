"""Metrics: torchmetrics classes over pure functions; every state is a sum of integers or a gathered list."""

from geoalign.metrics.kap import KAP as KAP
from geoalign.metrics.pck import PCK as PCK
from geoalign.metrics.pck import PckResult as PckResult
from geoalign.metrics.pck import Score as Score
from geoalign.metrics.pck_dagger import dagger_error_px as dagger_error_px
from geoalign.metrics.pose_choice import PoseChoice as PoseChoice
from geoalign.metrics.robustness import PosePrediction as PosePrediction
from geoalign.metrics.robustness import azimuth_sensitivity as azimuth_sensitivity
from geoalign.metrics.visibility_split import VisibilitySplit as VisibilitySplit
