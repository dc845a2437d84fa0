"""A run's summary: its protocol, code, counts, scores and intervals as one json file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from geoalign.files import FileError, read_json, replacing, short_hash
from geoalign.keys import alpha_name, metric_key, pck_key
from geoalign.metrics.pck import Count
from geoalign.metrics.robustness import azimuth_sensitivity
from geoalign.results.intervals import LEVEL, bootstrap_intervals
from geoalign.results.predictions import ResultsError, scores_from_predictions
from geoalign.results.version import CodeVersion, code_version

if TYPE_CHECKING:
    import pandas as pd

SUMMARY_FORMAT = 2
"""In format 1 an evaluation's ``method`` was called ``view``."""

SUMMARY_NAME = "summary.json"

COMPARISONS = {"<": True, "<=": False}
"""Comparisons of an error with its limit, and whether each is strict (docs/protocol.md#metrics)."""

Published = str | dict[str, str | None] | None
"""The published method that a run repeats: its name stands for ``plain``, or one name per method of prediction."""

_EXACT = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)  # a score that is empty is left out, never NaN


@with_config(_EXACT)
class Protocol(TypedDict):
    """What a score depends on beside the features (docs/protocol.md#metrics)."""

    image_protocol: str
    frame_px: int
    threshold: str  # box or image
    comparison: Literal["<", "<="]
    matcher: dict[str, Any]
    pose: dict[str, Any]


@with_config(_EXACT)
class Evaluation(TypedDict):
    """One dataset under one method of prediction (``plain`` or ``aligned``)."""

    stage: str
    dataset: str
    split: str
    dataset_fingerprint: str
    method: str
    protocol: Protocol
    alphas: list[float]
    categories: list[str]  # those that occur
    counts: dict[str, int]  # pairs, keypoints, geometry_aware
    metrics: dict[str, float]  # shares and counts under their logged names
    intervals: dict[str, list[float]]  # low and high end, under the score's name
    bootstrap: dict[str, float]  # samples, seed, level


@with_config(_EXACT)
class Summary(TypedDict):
    """What a run leaves for the tables."""

    format_version: int
    name: str
    published: Published
    config_hash: str
    code_version: CodeVersion
    evaluations: list[Evaluation]


_CHECK = TypeAdapter(Summary)


def evaluate_table(
    table: pd.DataFrame,
    *,
    stage: str,
    dataset: str,
    split: str,
    dataset_fingerprint: str,
    method: str,
    protocol: Protocol,
    alphas: Sequence[float],
    samples: int = 1000,
    seed: int = 0,
    also: Mapping[str, float] | None = None,
) -> Evaluation:
    """All scores, counts, sensitivities and 95 % intervals of one predictions table.

    ``alphas`` are shares of the target's size, ``samples`` resamples of pairs drawn from ``seed``; ``also`` are metrics
    by name that a table of points cannot tell.
    """
    strict = COMPARISONS[protocol["comparison"]]
    result = scores_from_predictions(table, alphas, strict)
    metrics = result.named(stage, dataset, method=method, by_category=True)
    for at, value in azimuth_sensitivity(result.scores).items():
        name, place = f"sensitivity@{alpha_name(at.alpha)}", {"subset": at.subset, "category": at.category}
        metrics[metric_key(stage, dataset, name, at.average, method=method, **place)] = value
    intervals = bootstrap_intervals(table, alphas, strict=strict, samples=samples, seed=seed)
    none = Count(0, 0)
    counts = result.counts.get(("all", "all"), none)._asdict()
    return Evaluation(
        stage=stage,
        dataset=dataset,
        split=split,
        dataset_fingerprint=dataset_fingerprint,
        method=method,
        protocol=protocol,
        alphas=list(alphas),
        categories=sorted(table["category"].unique()),
        counts={**counts, "geometry_aware": result.counts.get(("geometry_aware", "all"), none).keypoints},
        metrics={**metrics, **(also or {})},
        intervals={
            pck_key(stage, dataset, at.alpha, at.average, subset=at.subset, method=method): list(ends)
            for at, ends in intervals.items()
        },
        bootstrap={"samples": samples, "seed": seed, "level": LEVEL},
    )


def make_summary(
    name: str, config: Mapping[str, Any], evaluations: Sequence[Evaluation], published: Published = None
) -> Summary:
    """A summary with this code's version and the hash of the plain-data ``config``."""
    return Summary(
        format_version=SUMMARY_FORMAT,
        name=name,
        published=published,
        config_hash=short_hash(config),
        code_version=code_version(),
        evaluations=list(evaluations),
    )


def write_summary(folder: str | Path, summary: Summary) -> Path:
    """Write ``summary.json`` into a run's folder, whole or not at all.

    Raises:
        ResultsError: a field is missing, unknown or impossible.
    """
    path = Path(folder) / SUMMARY_NAME
    check_summary(summary, str(path))
    with replacing(path) as partial:
        partial.write_text(json.dumps(summary, indent=1, sort_keys=True, allow_nan=False) + "\n")
    return path


def read_summary(folder: str | Path) -> Summary:
    """Read and check the summary of a run's folder.

    Raises:
        ResultsError: no file, no json, or a field that is missing or wrong.
    """
    path = Path(folder) / SUMMARY_NAME
    if not path.is_file():
        raise ResultsError(f"no {SUMMARY_NAME} in {folder}; evaluate with the results callback to write it")
    try:
        data = in_current_format(read_json(path, remedy="evaluate again"))
    except FileError as error:
        raise ResultsError(str(error)) from error
    check_summary(data, str(path))
    return cast(Summary, data)


def in_current_format(data: Any) -> Any:
    """A summary of format 1 under today's names; anything else as it is, for the check to judge."""
    if not isinstance(data, dict) or data.get("format_version") != 1 or not isinstance(data.get("evaluations"), list):
        return data
    evaluations = [
        {"method" if name == "view" else name: value for name, value in e.items()} if isinstance(e, dict) else e
        for e in data["evaluations"]
    ]
    return data | {"format_version": SUMMARY_FORMAT, "evaluations": evaluations}


def check_summary(data: Any, where: str) -> None:
    """Refuse a summary with a missing, unknown or impossible field.

    Raises:
        ResultsError: naming the file ``where`` and the first wrong field.
    """
    try:
        summary = _CHECK.validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        got = "" if first["type"] == "missing" else f", got {first['input']!r:.80}"
        raise ResultsError(f"{where}: {field}: {first['msg']}{got}; write it again with this geoalign") from error
    if summary["format_version"] != SUMMARY_FORMAT:
        raise ResultsError(f"{where}: expected format_version {SUMMARY_FORMAT}, got {summary['format_version']}")
    given = [(e["stage"], e["dataset"], e["split"], e["method"]) for e in summary["evaluations"]]
    if len(set(given)) != len(given):
        raise ResultsError(f"{where}: a dataset is evaluated twice under one method: {given}; keep one of them")
