"""What wrong predictions are: swapped with a mirror or same-part instance, near misses, elsewhere; per category."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from omegaconf import OmegaConf

from geoalign.build import make_data
from geoalign.data.records import PairRecord, PairSource, related_slots
from geoalign.draw.bars import save_grid, stacked_bars
from geoalign.geometry import letterbox_points
from geoalign.keys import alpha_name
from geoalign.metrics.anatomy import VERDICTS, verdict
from geoalign.report.analyse.evaluated import Cell, Evaluated, number, write_csv
from geoalign.report.table import Table
from geoalign.results.predictions import ResultsError, predictions_path, read_predictions

if TYPE_CHECKING:
    import pandas as pd

COLOURS = {"correct": "#6aa84f", "swapped": "#e0803c", "near": "#f1c232", "elsewhere": "#a0a0a0"}
SETS = ("all", "geometry_aware")
HEADER = ("run", "method", "dataset", "category", "set", "keypoints", *VERDICTS)


def errors(found: Sequence[Evaluated], alpha: float, out: Path) -> tuple[Table, list[Path]]:
    """Table of shares, and the csv and picture written into ``out``; reads the runs' datasets for all true points."""
    rows = [row for one in found for row in error_rows(one, alpha)]
    paths = [out / f"errors.{ending}" for ending in ("csv", "png")]
    write_csv(paths[0], HEADER, rows)
    _draw(found, rows, paths[1])
    lines = [[f"{r[0]} {r[1]}", f"{r[3]}{'' if r[4] == 'all' else ', geometry-aware'}", *r[5:]] for r in rows]
    notes = [
        f"swapped: within {alpha_name(alpha)} of another visible instance of the same part or its mirror partner; "
        "near: within twice the threshold"
    ]
    title = f"Anatomy of errors at {alpha_name(alpha)}, % of keypoints"
    return Table(title, ["run", "category", "keypoints", *VERDICTS], lines, notes), paths


def error_rows(one: Evaluated, alpha: float) -> list[list[Cell]]:
    """Keypoints and percentages per category and set; an empty set has no row."""
    table = read_predictions(predictions_path(one.folder, one.evaluation["dataset"], one.evaluation["method"])).table
    table = table.assign(verdict=verdicts(table, dataset_of(one), alpha))
    rows: list[list[Cell]] = []
    for category in (*one.evaluation["categories"], "all"):
        for name in SETS:
            own = table if category == "all" else table[table["category"] == category]
            own = own if name == "all" else own[own["geometry_aware"]]
            if len(own):
                shares = [100 * float((own["verdict"] == v).mean()) for v in VERDICTS]
                place: list[Cell] = [one.label, one.evaluation["method"], one.evaluation["dataset"], category, name]
                rows.append([*place, len(own), *shares])
    return rows


def dataset_of(one: Evaluated) -> PairSource:
    """The dataset that a run was evaluated on, from the run's own config.

    Raises:
        ResultsError: no config beside the results, or the data changed since.
        DataError: the dataset is not there.
    """
    config = next((p / "config" / "config.yaml" for p in one.folder.parents if (p / "config").is_dir()), None)
    if config is None or not config.is_file():
        raise ResultsError(f"no config/config.yaml above {one.folder}; errors needs a run's own folder")
    source = make_data(OmegaConf.load(config).data, ["test"]).test_sources[one.evaluation["dataset"]]
    if source.fingerprint() != one.evaluation["dataset_fingerprint"]:
        raise ResultsError(f"{source.name} changed since {one.folder} was evaluated; evaluate again")
    return source


def verdicts(table: pd.DataFrame, source: PairSource, alpha: float) -> np.ndarray:
    """Name of the verdict on every row of a predictions table."""
    pairs = {pair.pair_id: pair for pair in source}
    found = np.empty(len(table), dtype=object)
    for category, own in table.groupby(table["pair_id"].map(lambda name: _pair(pairs, name).trg.category)):
        related = torch.from_numpy(related_slots(source, str(category)))
        ids, first = own["pair_id"].factorize()
        targets = [_pair(pairs, name).trg for name in first]
        true = torch.from_numpy(np.stack([letterbox_points(t.xy_px, t.size) for t in targets])).float()
        seen = torch.from_numpy(np.stack([t.visible for t in targets]))
        row, slot = torch.from_numpy(ids), torch.from_numpy(own["slot"].to_numpy(copy=True))
        predicted = true.clone()
        predicted[row, slot] = torch.from_numpy(own[["x_px", "y_px"]].to_numpy(copy=True)).float()
        size = torch.from_numpy(own.drop_duplicates("pair_id")["size_px"].to_numpy(copy=True)).float()
        code = verdict(predicted, true, seen, related.expand(len(true), -1, -1), size, alpha)[row, slot]
        found[table.index.get_indexer(own.index)] = np.array(VERDICTS)[code.numpy()]
    return found


def _pair(pairs: dict[str, PairRecord], name: str) -> PairRecord:
    """A pair by its id; one drawn again carries a number."""
    return pairs[name] if name in pairs else pairs[name.rpartition("#")[0]]


def _draw(found: Sequence[Evaluated], rows: Sequence[Sequence[Cell]], path: Path) -> None:
    plots = []
    for one in found:
        place = [one.label, one.evaluation["method"], one.evaluation["dataset"]]
        own = [row for row in rows if list(row[:3]) == place]
        names = [f"{row[3]}{'' if row[4] == 'all' else ' (geo)'}" for row in own]
        series = {v: [number(row[6 + at]) for row in own] for at, v in enumerate(VERDICTS)}
        plots.append([partial(stacked_bars, names=names, series=series, colours=COLOURS, label="keypoints, %")])
    widest = max(len(one.evaluation["categories"]) for one in found)
    save_grid(plots, [one.title for one in found], path, (max(5.5, 0.75 * widest + 2), 3.9))
