"""The model card of a published refiner: what it is for, how to use it, how it scores and by which protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from geoalign.keys import alpha_name, pck_key
from geoalign.markdown import markdown_table
from geoalign.refiner.base import CheckpointError, Refiner
from geoalign.refiner.tail import tails_in
from geoalign.results.summary import SUMMARY_NAME, Evaluation, Summary, read_summary

NAME = "geoalign refiner"
_START = """
geoalign.refiner.tail.start(refiner, backbone.rest)  # the frozen rest of a tail is that of the backbone below, cut"""
UNITS = ("image", "keypoint")

_CARD = """# Refiner for geometry-aware semantic correspondence

A small network that turns frozen feature maps into unit descriptors for semantic
correspondence, the problem of [Telling Left from Right](https://arxiv.org/abs/2311.17034).

{sizes}

## Use

```python
from geoalign import publish

refiner = publish.load("<this repository or folder>"){start}
descriptors = refiner(maps)  # maps of the channels above, in that order
```

or `geoalign evaluate refiner={name} {settings} checkpoint=<folder>` with the
backbone below.

## Backbone

{backbone}

## Scores

{scores}
"""


def make_card(
    refiner: Refiner,
    settings: Mapping[str, Any] | None = None,
    run: str | Path | None = None,
    backbone: str | None = None,
) -> ModelCard:
    """The card of a refiner.

    Args:
        refiner: what the card is of.
        settings: of the backbone that it was trained on, where a run recorded them.
        run: the folder of the run that tested it, or a results folder.
        backbone: in words.

    Raises:
        CheckpointError: a run without results.
        ResultsError: results that cannot be read.
    """
    summary = None if run is None else _read_scores(Path(run))
    shown = [backbone] if backbone is not None else []
    if settings is not None:
        shown.append(f"```yaml\n{yaml.safe_dump(dict(settings), sort_keys=False).strip()}\n```")
    text = _CARD.format(
        sizes=_size_table(refiner),
        start=_START if tails_in(refiner) else "",
        name=type(refiner).__name__.lower(),
        settings=" ".join(f"refiner.{k}={v}" for k, v in _own_settings(refiner).items()),
        backbone="\n\n".join(shown)
        or "Not recorded: any that gives maps of the channels above, but scores hold for one only.",
        scores="Not measured." if summary is None else _scores(summary),
    )
    results: dict[str, Any] = (
        {} if summary is None else {"model_name": NAME, "eval_results": list(_eval_results(summary))}
    )
    data = ModelCardData(
        library_name="geoalign",
        pipeline_tag="keypoint-detection",
        tags=["semantic-correspondence", "keypoint-matching"],
        **results,
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}", ignore_metadata_errors=False)


def _read_scores(run: Path) -> Summary:
    """What a run's test of its refiner said, or a results folder."""
    folders = (run / "results" / "refined", run)
    folder = next((folder for folder in folders if (folder / SUMMARY_NAME).is_file()), None)
    if folder is None:
        raise CheckpointError(f"no {SUMMARY_NAME} in {run} or its results; give the folder of a run that was tested")
    summary = read_summary(folder)
    try:
        _scores(summary)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / SUMMARY_NAME} lacks what a card tells ({error!r}); evaluate again") from error
    return summary


def _own_settings(refiner: Refiner) -> dict[str, Any]:
    """Settings that the backbone does not bring."""
    return {k: v for k, v in refiner.config().items() if isinstance(v, int | float | str) and k != "grid"}


def _size_table(refiner: Refiner) -> str:
    rows = {
        "frozen maps": f"{len(refiner.channels)}, of {', '.join(map(str, refiner.channels))} channels",
        "descriptors": f"on {refiner.grid} x {refiner.grid} cells",
        "parameters": f"{sum(p.numel() for p in refiner.parameters()):,}",
        **(
            {"trained": f"{sum(refiner.get_parameter(n).numel() for n in refiner.trained()):,}"}
            if tails_in(refiner)
            else {}
        ),
        **_own_settings(refiner),
    }
    return markdown_table(("", ""), rows.items())


def _trained(refiner: Refiner) -> dict[str, str]:
    """How many parameters are trained, where others are not."""
    if not tails_in(refiner):
        return {}
    return {"of which trained": f"{sum(refiner.get_parameter(name).numel() for name in refiner.trained()):,}"}


def _scores(summary: Summary) -> str:
    evaluations, version = summary["evaluations"], summary["code_version"]
    alphas = sorted({a for e in evaluations for a in e["alphas"]}, reverse=True)
    columns = [(a, unit) for unit in UNITS for a in alphas]
    header = ["dataset", "pose", "pairs", *(f"@{alpha_name(a)} {unit}" for a, unit in columns)]
    rows = [
        [f"{e['dataset']} ({e['split']})", e["method"], f"{e['counts']['pairs']:,}", *(_pck(e, *at) for at in columns)]
        for e in evaluations
    ]
    commit = f", commit {version['commit'][:12]}" if version["commit"] else ""
    made = f"Tested with geoalign {version['package']}{commit}; config {summary['config_hash']}."
    protocols = dict.fromkeys(map(_protocol, evaluations))
    return "\n\n".join(["PCK in percent.", markdown_table(header, rows), *protocols, made])


def _pck(evaluation: Evaluation, alpha: float, unit: str, places: int = 1) -> str:
    key = pck_key(evaluation["stage"], evaluation["dataset"], alpha, unit, method=evaluation["method"])
    value = evaluation["metrics"].get(key)
    return "" if value is None else f"{100 * value:.{places}f}"


def _protocol(evaluation: Evaluation) -> str:
    """What the scores depend on beside features and weights."""
    p = evaluation["protocol"]
    matcher = ", ".join(f"{k} {v}" for k, v in p["matcher"].items() if k != "frame_px")
    pose = {k: v for k, v in p["pose"].items() if not k.startswith("_")}
    if pose.get("masks") != "sam":  # where the masks come from elsewhere, sam's settings say nothing
        pose.pop("sam", None)
    return (
        f"Protocol of the {evaluation['method']} rows: {p['image_protocol']} frames of {p['frame_px']} px; correct "
        f"when the error {p['comparison']} alpha x size of the target's {p['threshold']}; matcher: {matcher}; "
        f"pose: {', '.join(f'{k} {v}' for k, v in pose.items())}."
    )


def _eval_results(summary: Summary) -> Iterable[EvalResult]:
    for e in summary["evaluations"]:
        for alpha, unit in [(alpha, unit) for alpha in e["alphas"] for unit in UNITS]:
            if percent := _pck(e, alpha, unit, places=2):
                yield EvalResult(
                    task_type="keypoint-detection",
                    dataset_type=e["dataset"],
                    dataset_name=f"{e['dataset']} ({e['split']}, {e['method']})",
                    metric_type=f"pck@{alpha_name(alpha)}/{unit}",
                    metric_value=float(percent),
                )
