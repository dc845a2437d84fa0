"""Train a refiner: compose, seed, build, test zero-shot, fit, test the best, show; returns the objective."""

from __future__ import annotations

from omegaconf import DictConfig

from geoalign.options.entry import command


@command("train")
def main(cfg: DictConfig) -> float | None:
    """The objective (a validation metric, higher is better); Hydra's sweepers optimise it."""
    from geoalign.run import train

    return train(cfg)
