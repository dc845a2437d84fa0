"""The model card of a published refiner: what it is for, how to use it, how it scores and by which protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from geoalign.keys import alpha_name, pck_key
from geoalign.refiner.checkpoint import CheckpointError
from geoalign.results.summary import in_current_format

SUMMARIES = ("results/refined/summary.json", "summary.json")
NAME = "geoalign refiner"

_INTRO = """# Refiner for geometry-aware semantic correspondence

A small network that turns frozen feature maps into unit descriptors for semantic
correspondence: the post-processor of [Telling Left from Right](https://arxiv.org/abs/2311.17034)."""

_USE = """## Use

```python
from geoalign.refiner import Aggregation

refiner = Aggregation.from_pretrained("<this repository or folder>")
descriptors = refiner(maps)  # maps of the channels above, in that order
```

or `python evaluate.py refiner=aggregation refiner.width={width} refiner.hidden={hidden} checkpoint=<folder>` with the
backbone below."""


def make_card(
    config: Mapping[str, Any],
    parameters: int,
    data: ModelCardData,
    run: str | Path | None = None,
    backbone: str | None = None,
) -> ModelCard:
    """The card of a refiner of ``config`` whose scores and backbone a run's folder tells."""
    summary = None if run is None else read_scores(run)
    known = None if run is None else _backbone_of(Path(run))
    parts = [_INTRO, _shape_table(config, parameters), _USE.format(**config), _backbone_part(backbone, known)]
    parts.append("## Scores\n\nNot measured." if summary is None else _scores(summary))
    metadata = data.to_dict() | {"pipeline_tag": "keypoint-detection"}
    if summary is not None:
        metadata |= {"model_name": NAME, "eval_results": _eval_results(summary)}
    header = ModelCardData(**metadata).to_yaml()
    return ModelCard(f"---\n{header}\n---\n\n" + "\n\n".join(parts) + "\n", ignore_metadata_errors=False)


def read_scores(run: str | Path) -> dict[str, Any]:
    """The summary of a run's folder, of a results folder, or a summary file itself."""
    places = [Path(run)] if Path(run).is_file() else [Path(run) / name for name in SUMMARIES]
    found = [path for path in places if path.is_file()]
    if not found:
        raise CheckpointError(f"no {' or '.join(SUMMARIES)} in {run}; give the folder of a run that was tested")
    try:
        summary: dict[str, Any] = in_current_format(json.loads(found[0].read_text()))
        _scores(summary)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{found[0]} is not a run's summary ({error!r}); evaluate again") from error
    return summary


def _shape_table(config: Mapping[str, Any], parameters: int) -> str:
    channels = ", ".join(map(str, config["channels"]))
    grid = config.get("grid", "?")
    rows = [
        ("frozen maps", f"{len(config['channels'])}, of {channels} channels"),
        ("descriptors", f"{config['width']} channels on {grid} x {grid} cells"),
        ("parameters", f"{parameters:,}"),
    ]
    return "| | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows)


def _backbone_of(run: Path) -> str | None:
    """The backbone's settings in a run's recorded config, as yaml."""
    import yaml

    path = run / "config" / "config.yaml"
    if not path.is_file():
        return None
    settings = yaml.safe_load(path.read_text()).get("backbone")
    return None if settings is None else str(yaml.safe_dump(settings, sort_keys=False)).strip()


def _backbone_part(said: str | None, known: str | None) -> str:
    if said is None and known is None:
        return "## Backbone\n\nNot recorded: any that gives maps of the channels above, but scores hold for one only."
    told = ([said] if said is not None else []) + ([f"```yaml\n{known}\n```"] if known is not None else [])
    return "## Backbone\n\n" + "\n\n".join(told)


def _scores(summary: Mapping[str, Any]) -> str:
    evaluations = summary["evaluations"]
    version = summary["code_version"]
    commit = f", commit {version['commit'][:12]}" if version["commit"] else ""
    made = f"Tested with geoalign {version['package']}{commit}; config {summary['config_hash']}."
    return "\n\n".join(["## Scores", "PCK in percent.", _score_table(evaluations), *_protocols(evaluations), made])


def _score_table(evaluations: Sequence[Mapping[str, Any]]) -> str:
    alphas = sorted({a for e in evaluations for a in e["alphas"]}, reverse=True)
    heads = [f"@{alpha_name(a)} {unit}" for unit in ("image", "keypoint") for a in alphas]
    lines = ["| dataset | pose | pairs | " + " | ".join(heads) + " |", "|---" * (3 + len(heads)) + "|"]
    for e in evaluations:
        values = [_percent(e, a, unit) for unit in ("image", "keypoint") for a in alphas]
        split = f"{e['dataset']} ({e['split']})"
        lines.append(f"| {split} | {e['method']} | {e['counts']['pairs']:,} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def _percent(evaluation: Mapping[str, Any], alpha: float, average: str) -> str:
    value = evaluation["metrics"].get(_key(evaluation, alpha, average))
    return "" if value is None else f"{100 * value:.1f}"


def _key(evaluation: Mapping[str, Any], alpha: float, average: str) -> str:
    return pck_key(evaluation["stage"], evaluation["dataset"], alpha, average, method=evaluation["method"])


def _protocols(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line per distinct protocol: what the scores depend on beside features and weights."""
    lines: dict[str, None] = {}
    for e in evaluations:
        p = e["protocol"]
        matcher = ", ".join(f"{k} {v}" for k, v in p["matcher"].items() if k != "frame_px")
        told = {k: v for k, v in p["pose"].items() if not k.startswith("_")}
        if told.get("masks") != "sam":
            told.pop("sam", None)
        pose = ", ".join(f"{k} {v}" for k, v in told.items())
        lines[
            f"Protocol of the {e['method']} rows: {p['image_protocol']} frames of {p['frame_px']} px; correct when the "
            f"error {p['comparison']} alpha x size of the target's {p['threshold']}; matcher: {matcher}; pose: {pose}."
        ] = None
    return list(lines)


def _eval_results(summary: Mapping[str, Any]) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="keypoint-detection",
            dataset_type=e["dataset"],
            dataset_name=f"{e['dataset']} ({e['split']}, {e['method']})",
            metric_type=f"pck@{alpha_name(alpha)}/{average}",
            metric_value=round(100 * e["metrics"][_key(e, alpha, average)], 2),
        )
        for e in summary["evaluations"]
        for alpha in e["alphas"]
        for average in ("image", "keypoint")
        if _key(e, alpha, average) in e["metrics"]
    ]
