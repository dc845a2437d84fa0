"""Published numbers, looked up by method, dataset and score."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from geoalign.keys import alpha_name
from geoalign.results.predictions import ResultsError

IMAGE_THRESHOLD = ("pf_pascal",)
"""Datasets whose published PCK is relative to the image; all others to the target's box."""

ALIGNED = " + pose alignment"


class Method(NamedTuple):
    """A published method and its percentages by (dataset, subset, average, category, alpha)."""

    name: str
    setting: str | None  # zero_shot, weakly_supervised, supervised
    percent: Mapping[tuple[str, str, str, str, str], float]

    def get(
        self, dataset: str, alpha: float, average: str, *, subset: str = "all", category: str = "all"
    ) -> float | None:
        """The percentage, or None where no source gives it."""
        return self.percent.get((dataset, subset, average, category, alpha_name(alpha)))


@cache
def load_facts() -> dict[str, Any]:
    """The packaged facts as they lie in ``published.json``."""
    return json.loads(files("geoalign.report").joinpath("published.json").read_text(encoding="utf-8"))


@cache
def load_methods() -> dict[str, Method]:
    """Every published method by name and alias."""
    methods = {}
    for entry in load_facts()["methods"]:
        percent = {}
        for score in entry["scores"]:
            place = score["dataset"], score.get("subset", "all"), score["average"]
            percent.update({(*place, "all", alpha): value for alpha, value in score.get("percent", {}).items()})
            for alpha, values in score.get("categories", {}).items():
                percent.update({(*place, category, alpha): value for category, value in values.items()})
        method = Method(entry["method"], entry["setting"], percent)
        methods.update(dict.fromkeys([method.name, *entry.get("aliases", [])], method))
    return methods


def find_method(published: str | Mapping[str, str | None] | None, view: str) -> Method | None:
    """The published neighbour of a run under a view.

    A single name stands for the plain view; its aligned neighbour is the same method with pose alignment.

    Raises:
        ResultsError: a method nobody published.
    """
    methods = load_methods()
    if published is None:
        return None
    name = published.get(view) if isinstance(published, Mapping) else published
    if (isinstance(published, str) and published not in methods) or (name is not None and name not in methods):
        raise ResultsError(f"no published method is called {name!r}; known: {', '.join(methods)}")
    if isinstance(published, str) and view == "aligned":
        return methods.get(published + ALIGNED)
    return None if name is None else methods[name]


def published_threshold(dataset: str) -> str:
    """What the published PCK of a dataset is relative to: ``box`` or ``image``."""
    return "image" if dataset in IMAGE_THRESHOLD else "box"
