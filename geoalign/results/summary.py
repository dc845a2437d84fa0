"""A run's summary: its protocol, code, counts, scores and intervals as one json file."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

from geoalign.files import replacing, short_hash
from geoalign.keys import alpha_name, metric_key, pck_key
from geoalign.metrics.pck import Count
from geoalign.metrics.robustness import azimuth_sensitivity
from geoalign.results.intervals import bootstrap_intervals
from geoalign.results.predictions import ResultsError, scores_from_predictions
from geoalign.version import __version__

if TYPE_CHECKING:
    import pandas as pd

SUMMARY_FORMAT = 2
"""In format 1 an evaluation's ``method`` was called ``view``."""
SUMMARY_NAME = "summary.json"
COMPARISONS = {"<": True, "<=": False}


Published = str | dict[str, str | None] | None


class Protocol(TypedDict):
    """What a score depends on beside the features."""

    image_protocol: str
    frame_px: int
    threshold: str  # box or image
    comparison: Literal["<", "<="]
    matcher: dict[str, Any]
    pose: dict[str, Any]


class Evaluation(TypedDict):
    """One dataset under one method (``plain`` or ``aligned``)."""

    stage: str
    dataset: str
    split: str
    dataset_fingerprint: str
    method: str
    protocol: Protocol
    alphas: list[float]
    categories: list[str]  # those that occur
    counts: dict[str, int]  # pairs, keypoints, geometry_aware
    metrics: dict[str, float]
    intervals: dict[str, list[float]]
    bootstrap: dict[str, float]


class CodeVersion(TypedDict):
    """Package version, and the commit where the package is run from a checkout."""

    package: str
    commit: str | None
    dirty: bool | None


class Summary(TypedDict):
    """What a run leaves for the tables.

    ``published`` names the published method it repeats, if any: one for ``plain``, or one per method of prediction.
    """

    format_version: int
    name: str
    published: Published
    config_hash: str
    code_version: CodeVersion
    evaluations: list[Evaluation]


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
) -> Evaluation:
    """All scores, counts, sensitivities and 95 % intervals of one predictions table."""
    strict = COMPARISONS[protocol["comparison"]]
    result = scores_from_predictions(table, alphas, strict)
    metrics = result.named(stage, dataset, method=method, by_category=True)
    for at, value in azimuth_sensitivity(result.scores).items():
        name, place = f"sensitivity@{alpha_name(at.alpha)}", {"subset": at.subset, "category": at.category}
        metrics[metric_key(stage, dataset, name, at.average, method=method, **place)] = value
    intervals = bootstrap_intervals(table, alphas, strict=strict, samples=samples, seed=seed)
    every = result.counts.get(("all", "all"), Count(0, 0))
    return Evaluation(
        stage=stage,
        dataset=dataset,
        split=split,
        dataset_fingerprint=dataset_fingerprint,
        method=method,
        protocol=protocol,
        alphas=list(alphas),
        categories=sorted(table["category"].unique()),
        counts={
            **every._asdict(),
            "geometry_aware": result.counts.get(("geometry_aware", "all"), Count(0, 0)).keypoints,
        },
        metrics=metrics,
        intervals={
            pck_key(stage, dataset, at.alpha, at.average, subset=at.subset, method=method): list(ends)
            for at, ends in intervals.items()
        },
        bootstrap={"samples": samples, "seed": seed, "level": 0.95},
    )


def make_summary(
    name: str, config: Mapping[str, Any], evaluations: Sequence[Evaluation], published: Published = None
) -> Summary:
    """A summary with this code's version and the config's hash."""
    return Summary(
        format_version=SUMMARY_FORMAT,
        name=name,
        published=published,
        config_hash=config_hash(config),
        code_version=code_version(),
        evaluations=list(evaluations),
    )


def config_hash(config: Mapping[str, Any]) -> str:
    """Short hash of plain config data, whatever the order of its keys."""
    return short_hash(config)


def code_version() -> CodeVersion:
    """Version of the package, with commit and dirty flag only where git tracks this very package."""
    folder = Path(__file__).parents[1]
    tracked = _git(folder, "ls-files", "--error-unmatch", "__init__.py")
    commit = _git(folder, "rev-parse", "HEAD") if tracked is not None else None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no") if commit else None
    return CodeVersion(package=__version__, commit=commit, dirty=None if changes is None else bool(changes))


def write_summary(folder: str | Path, summary: Summary) -> Path:
    """Write ``summary.json`` into a run's folder, whole or not at all."""
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
        data = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ResultsError(f"{path} is not json ({error}); evaluate again") from error
    data = in_current_format(data)
    check_summary(data, str(path))
    return cast(Summary, data)


def check_summary(data: Any, where: str) -> None:
    """Refuse a summary with a missing, unknown or impossible field."""
    _check_fields(data, Summary, where)
    if data["format_version"] != SUMMARY_FORMAT:
        raise ResultsError(f"{where}: expected format_version {SUMMARY_FORMAT}, got {data['format_version']}")
    names = data["published"].values() if isinstance(data["published"], dict) else [data["published"]]
    if not all(name is None or isinstance(name, str) for name in names):
        raise ResultsError(
            f"{where}: published must be a name, or one per method of prediction, got {data['published']!r}"
        )
    for evaluation in data["evaluations"]:
        _check_fields(evaluation, Evaluation, f"{where}: evaluations")
        at = f"{where}: {evaluation['dataset']}"
        _check_fields(evaluation["protocol"], Protocol, f"{at}: protocol")
        if evaluation["protocol"]["comparison"] not in COMPARISONS:
            got = evaluation["protocol"]["comparison"]
            raise ResultsError(f"{at}: comparison must be '<' or '<=', got {got!r}")
        numbers = [
            *evaluation["metrics"].items(),
            *((k, v) for k, ends in evaluation["intervals"].items() for v in ends),
        ]
        for key, value in numbers:
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise ResultsError(f"{at}: {key} is {value!r}, expected a finite number; leave out what is empty")
    given = [(e["stage"], e["dataset"], e["split"], e["method"]) for e in data["evaluations"]]
    if len(set(given)) != len(given):
        raise ResultsError(f"{where}: a dataset is evaluated twice under one method: {given}")


def in_current_format(data: Any) -> Any:
    """A summary of format 1 under today's names; anything else as it is, for the check to judge."""
    if not isinstance(data, dict) or data.get("format_version") != 1 or not isinstance(data.get("evaluations"), list):
        return data
    rename = {"view": "method"}
    evaluations = [
        {rename.get(name, name): value for name, value in e.items()} if isinstance(e, dict) else e
        for e in data["evaluations"]
    ]
    return data | {"format_version": SUMMARY_FORMAT, "evaluations": evaluations}


def _check_fields(data: Any, schema: type, where: str) -> None:
    fields = set(schema.__annotations__)
    if not isinstance(data, Mapping):
        raise ResultsError(f"{where}: expected an object with the fields {sorted(fields)}, got {type(data).__name__}")
    differ = [f"{name} is missing" for name in sorted(fields - set(data))]
    differ += [f"{name} is unknown" for name in sorted(set(data) - fields)]
    if differ:
        raise ResultsError(f"{where}: {', '.join(differ)}; write it again with this version of geoalign")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None  # no git here: the package version must do
    return done.stdout.strip() if done.returncode == 0 else None
