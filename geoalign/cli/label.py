"""Pseudo-labels of a training set's photographs, without their keypoints."""

from __future__ import annotations

from omegaconf import DictConfig

from geoalign.options.entry import command


@command("label")
def main(cfg: DictConfig) -> None:
    """Extract what is missing, match, filter, and write one file."""
    from geoalign.label import run

    run(cfg)
