"""What wrong predictions are: swapped with a mirror or same-part instance, near misses, elsewhere; per category."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from omegaconf import OmegaConf

from geoalign.build import make_data
from geoalign.data.records import PairSource
from geoalign.draw.bars import stacked_bars
from geoalign.keys import alpha_name
from geoalign.metrics.anatomy import VERDICTS
from geoalign.report.analyse.output import place, save, title
from geoalign.report.runs import Evaluated
from geoalign.report.table import Cell, Table
from geoalign.report.verdicts import verdicts
from geoalign.results.predictions import ResultsError, predictions_path, read_predictions

COLOURS = {"correct": "#6aa84f", "swapped": "#e0803c", "near": "#f1c232", "elsewhere": "#a0a0a0"}
HEADER = ("run", "method", "dataset", "category", "set", "keypoints", *VERDICTS)


class Shares(NamedTuple):
    """How many keypoints a category's set holds, and the percentage of every verdict."""

    category: str
    subset: str  # all, geometry_aware
    keypoints: int
    percent: Sequence[float]

    def label(self, note: str) -> str:
        """The category, with a note where only geometry-aware keypoints count."""
        return self.category + ("" if self.subset == "all" else note)


def errors(chosen: Sequence[Evaluated], alpha: float, out: Path) -> tuple[Table, list[Path]]:
    """Table of shares, and the csv and picture written into ``out``; reads the runs' datasets for all true points."""
    shares = [shares_of(one, alpha) for one in chosen]
    plots = []
    for own in shares:
        series = dict(zip(VERDICTS, zip(*(s.percent for s in own), strict=True), strict=True))
        names = [s.label(" (geo)") for s in own]
        plots.append([partial(stacked_bars, names=names, series=series, colours=COLOURS, label="keypoints, %")])
    every = [(one, s) for one, own in zip(chosen, shares, strict=True) for s in own]
    rows = [[*place(one), *s[:3], *s.percent] for one, s in every]
    size = (max(5.5, 0.75 * max(len(one.evaluation["categories"]) for one in chosen) + 2), 3.9)
    paths = save(out / "errors", HEADER, rows, plots, list(map(title, chosen)), size)
    lines: list[list[Cell]] = [
        [f"{one.label} {one.method}", s.label(", geometry-aware"), s.keypoints, *s.percent] for one, s in every
    ]
    notes = [
        f"swapped: within {alpha_name(alpha)} of another visible instance of the same part or its mirror partner; "
        "near: within twice the threshold"
    ]
    heading = f"Anatomy of errors at {alpha_name(alpha)}, % of keypoints"
    return Table(heading, ["run", "category", "keypoints", *VERDICTS], lines, notes), paths


def shares_of(one: Evaluated, alpha: float) -> list[Shares]:
    """Shares per category and set, then of all; an empty set is left out."""
    table = read_predictions(predictions_path(one.folder, one.dataset, one.method)).table
    table = table.assign(verdict=verdicts(table, dataset_of(one), alpha))
    shares = []
    for category in (*one.evaluation["categories"], "all"):
        whole = table if category == "all" else table[table["category"] == category]
        for subset, own in (("all", whole), ("geometry_aware", whole[whole["geometry_aware"]])):
            if len(own):
                percent = [100 * float((own["verdict"] == name).mean()) for name in VERDICTS]
                shares.append(Shares(category, subset, len(own), percent))
    return shares


def dataset_of(one: Evaluated) -> PairSource:
    """The dataset that a run was evaluated on, from the run's own config.

    Raises:
        ResultsError: no config beside the results, or the data changed since.
        DataError: the dataset is not there.
    """
    config = next((p / "config" / "config.yaml" for p in one.folder.parents if (p / "config").is_dir()), None)
    if config is None or not config.is_file():
        raise ResultsError(f"no config/config.yaml above {one.folder}; errors needs a run's own folder")
    source = make_data(OmegaConf.load(config).data, ["test"]).test_sources[one.dataset]
    if source.fingerprint() != one.evaluation["dataset_fingerprint"]:
        raise ResultsError(f"{source.name} changed since {one.folder} was evaluated; evaluate again")
    return source
