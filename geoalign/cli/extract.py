"""Fill the feature store on any number of ranks, or look after it."""

from __future__ import annotations

from omegaconf import DictConfig

from geoalign.options.entry import command


@command("extract")
def main(cfg: DictConfig) -> None:
    """Extract what is missing; with ``verify`` or ``repair`` only check what is there."""
    from geoalign.extract import run

    run(cfg)
