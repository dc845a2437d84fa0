"""The paper's analyses: geometry-aware gap, sensitivity to azimuth, pose prediction, anatomy of errors."""
