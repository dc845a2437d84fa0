"""Train a refiner: compose, seed, build, test zero-shot, fit, test the best, show; returns the objective."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from geoalign.build import one_line_errors


@hydra.main(version_base="1.3", config_path=str(Path(__file__).resolve().parent / "conf"), config_name="train")
@one_line_errors
def main(cfg: DictConfig) -> float | None:
    """The objective (a validation metric, higher is better); Hydra's sweepers optimise it."""
    from geoalign.run import train

    return train(cfg)


if __name__ == "__main__":
    main()
