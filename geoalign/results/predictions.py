"""Per-pair predictions as a file: what every score, interval and significance test is computed from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from geoalign.files import replacing
from geoalign.metrics.functional import point_error_px, subset_masks
from geoalign.metrics.pck import PCK, PckResult
from geoalign.types import Matches, PairBatch

if TYPE_CHECKING:
    import pandas as pd

PREDICTIONS_FORMAT = 1

COLUMNS = {
    "pair_id": "str",
    "category": "str",
    "slot": "int64",
    "x_px": "float64",
    "y_px": "float64",
    "true_x_px": "float64",
    "true_y_px": "float64",
    "size_px": "float64",
    "geometry_aware": "bool",
    "mirror": "bool",
    "azimuth_difference": "int64",
    "score": "float64",
    "pose": "str",
}
"""One row per keypoint visible in both images; points are pixels of the frame."""


class ResultsError(ValueError):
    """A results file is missing or wrong; the message names the file, the field and the remedy."""


class Predictions(NamedTuple):
    """The rows of a file, and every pair it covers (also those without a common keypoint)."""

    table: pd.DataFrame
    pairs: tuple[str, ...]


def predictions_path(folder: str | Path, dataset: str, method: str, rank: int | None = None) -> Path:
    """Where a run keeps its predictions; rank files lie beside until they are merged.

    >>> predictions_path("run", "spair71k", "aligned").name, predictions_path("run", "spair71k", "plain", 1).name
    ('predictions-spair71k-aligned.parquet', 'predictions-spair71k-plain.rank1.parquet')
    """
    return Path(folder) / f"predictions-{dataset}-{method}{'' if rank is None else f'.rank{rank}'}.parquet"


def batch_columns(
    batch: PairBatch, matches: Matches, categories: Sequence[str], pose: Sequence[str] | None = None
) -> dict[str, list[Any]]:
    """Columns of one batch's mutually visible keypoints; ``pose`` names each row's chosen pose."""
    row, slot = (index.tolist() for index in batch["visible"].cpu().nonzero(as_tuple=True))
    masks = subset_masks(batch["visible"], batch["geometry_aware"], batch["azimuth_difference"], batch["partner"])

    def keypoints(values: Tensor) -> list[Any]:
        return values[batch["visible"]].tolist()

    def rows(values: Sequence[Any]) -> list[Any]:
        return [values[r] for r in row]

    (x, y), (true_x, true_y) = matches.xy_px.unbind(-1), batch["trg_xy_px"].unbind(-1)
    return {
        "pair_id": rows(batch["pair_id"]),
        "category": rows([categories[c] for c in batch["category"].tolist()]),
        "slot": slot,
        "x_px": keypoints(x),
        "y_px": keypoints(y),
        "true_x_px": keypoints(true_x),
        "true_y_px": keypoints(true_y),
        "size_px": rows(batch["size_px"].tolist()),
        "geometry_aware": keypoints(masks["geometry_aware"]),
        "mirror": keypoints(masks["mirror"]),
        "azimuth_difference": rows(batch["azimuth_difference"].tolist()),
        "score": keypoints(matches.score),
        "pose": rows(pose if pose is not None else ["upright"] * len(batch["pair_id"])),
    }


def make_table(batches: Iterable[Mapping[str, Sequence[Any]]]) -> pd.DataFrame:
    """Rows of all batches, typed even where there are none."""
    import pandas as pd

    rows = list(batches)
    columns = {
        name: pd.Series([value for batch in rows for value in batch[name]], dtype=kind)
        for name, kind in COLUMNS.items()
    }
    return pd.DataFrame(columns)


def write_predictions(path: str | Path, table: pd.DataFrame, pairs: Sequence[str]) -> None:
    """Write checked rows and the ids of all evaluated ``pairs``; the file appears whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_predictions(table, pairs, str(path))
    arrow = pa.Table.from_pandas(table[list(COLUMNS)], preserve_index=False)
    about = json.dumps({"format": PREDICTIONS_FORMAT, "pairs": list(pairs)}).encode()
    with replacing(path) as partial:
        pq.write_table(arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), b"geoalign": about}), partial)


def read_predictions(path: str | Path) -> Predictions:
    """Read and check a predictions file.

    Raises:
        ResultsError: no such file, another kind of file, or rows that break the schema.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not Path(path).is_file():
        raise ResultsError(f"no predictions at {path}; evaluate with the results callback to write them")
    try:
        arrow = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise ResultsError(f"{path} is not a readable parquet file ({error}); evaluate again") from error
    about = json.loads((arrow.schema.metadata or {}).get(b"geoalign", b"{}"))
    if about.get("format") != PREDICTIONS_FORMAT:
        raise ResultsError(f"{path}: expected predictions of format {PREDICTIONS_FORMAT}, got {about.get('format')}")
    predictions = Predictions(arrow.to_pandas(), tuple(about["pairs"]))
    check_predictions(*predictions, str(path))
    return predictions


def check_predictions(table: pd.DataFrame, pairs: Sequence[str], where: str) -> None:
    """Refuse rows that would make a wrong score."""
    import numpy as np

    expected = make_table([]).dtypes
    if set(table.columns) != set(COLUMNS):
        differ = sorted(set(table.columns) ^ set(COLUMNS))
        raise ResultsError(f"{where}: expected the columns {list(COLUMNS)}; these differ: {differ}")
    for name, kind in COLUMNS.items():
        if table[name].dtype != expected[name]:
            raise ResultsError(f"{where}: column {name} holds {table[name].dtype}, expected {kind}; evaluate again")
        if kind == "float64" and not np.isfinite(table[name]).all():
            raise ResultsError(f"{where}: column {name} holds NaN or infinity; check the prediction")
    if (table["size_px"] <= 0).any():
        raise ResultsError(f"{where}: size_px must be positive, got {table['size_px'].min()}; check the boxes")
    if table.duplicated(["pair_id", "slot"]).any():
        twice = table[table.duplicated(["pair_id", "slot"])].iloc[0]
        raise ResultsError(f"{where}: pair {twice['pair_id']} holds slot {twice['slot']} twice; each counts once")
    if len(set(pairs)) != len(pairs) or not set(table["pair_id"]) <= set(pairs):
        raise ResultsError(f"{where}: the list of pairs repeats one or lacks one that has rows")


def merge_rank_files(paths: Sequence[str | Path], out: str | Path, order: Sequence[str]) -> Predictions:
    """Join rank files into ``out``, sorted by ``order`` (all pair ids of the dataset) and slot.

    Raises:
        ResultsError: a pair was evaluated twice, not at all, or is not in ``order``.
    """
    import pandas as pd

    parts = [read_predictions(path) for path in paths]
    seen = Counter(pair for part in parts for pair in part.pairs)
    place = {pair: index for index, pair in enumerate(order)}
    problems = {
        "evaluated twice": [pair for pair, times in seen.items() if times > 1],
        "missing": [pair for pair in order if pair not in seen],
        "not in the dataset": [pair for pair in seen if pair not in place],
    }
    for problem, wrong in problems.items():
        if wrong:
            files = ", ".join(str(path) for path in paths)
            raise ResultsError(f"{len(wrong)} pairs {problem}, such as {wrong[0]}, in {files}; evaluate again")
    table = pd.concat([part.table for part in parts], ignore_index=True)
    table = table.assign(_place=table["pair_id"].map(place)).sort_values(["_place", "slot"], ignore_index=True)
    merged = Predictions(table.drop(columns="_place"), tuple(order))
    write_predictions(out, *merged)
    return merged


def scores_from_predictions(table: pd.DataFrame, alphas: Sequence[float], strict: bool = True) -> PckResult:
    """Every score and count of :class:`PCK`, from the rows alone."""
    if table.empty:
        return PckResult({}, {})
    by_pair = table.groupby("pair_id", sort=False)
    pair, column, first = by_pair.ngroup(), by_pair.cumcount(), ~table.duplicated("pair_id").to_numpy()
    where = (torch.tensor(pair.to_numpy()), torch.tensor(column.to_numpy()))
    shape = (int(pair.max()) + 1, int(column.max()) + 1)

    def keypoints(values: Tensor) -> Tensor:
        return torch.zeros(shape, dtype=values.dtype).index_put(where, values)

    categories = sorted(table["category"].unique())
    values = {name: torch.tensor(table[name].to_numpy()) for name, kind in COLUMNS.items() if kind != "str"}
    category = torch.tensor(table["category"].map(categories.index).to_numpy())[first]
    visible = keypoints(torch.ones(len(table), dtype=torch.bool))
    masks = subset_masks(visible, keypoints(values["geometry_aware"]), values["azimuth_difference"][first])
    masks["mirror"] = keypoints(values["mirror"])
    # a file is read by one rank alone: waiting for the others would wait for ever
    metric = PCK(alphas, categories, strict, max_points=shape[1], sync_on_compute=False)
    metric.update(keypoints(table_error_px(table)), values["size_px"][first], visible, masks, category)
    return metric.compute()


def table_error_px(table: pd.DataFrame) -> Float[Tensor, "k"]:
    """Distance of every row's prediction to its truth, px of the frame."""
    predicted, true = (
        torch.tensor(table[names].to_numpy()) for names in (["x_px", "y_px"], ["true_x_px", "true_y_px"])
    )
    return point_error_px(predicted, true)
