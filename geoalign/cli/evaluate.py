"""Evaluate a refiner, or the frozen features alone: compose, build, load weights, test, write results."""

from __future__ import annotations

from omegaconf import DictConfig

from geoalign.options.entry import command


@command("evaluate")
def main(cfg: DictConfig) -> None:
    """Writes ``results/`` into the run's folder and prints the table."""
    from geoalign.run import evaluate

    evaluate(cfg)
