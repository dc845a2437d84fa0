"""Evaluate a refiner, or the frozen features alone: compose, build, load weights, test, write results."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from geoalign.build import one_line_errors


@hydra.main(version_base="1.3", config_path=str(Path(__file__).resolve().parent / "conf"), config_name="evaluate")
@one_line_errors
def main(cfg: DictConfig) -> None:
    """Writes ``results/`` into the run's folder and prints the table."""
    from geoalign.run import evaluate

    evaluate(cfg)


if __name__ == "__main__":
    main()
