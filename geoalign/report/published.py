"""Published numbers, looked up by method, dataset and score (docs/protocol.md#published-numbers)."""

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


class PublishedMethod(NamedTuple):
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
def load_published() -> dict[str, PublishedMethod]:
    """Every published method by name and alias."""
    methods = {}
    for entry in load_facts()["methods"]:
        percent = {}
        for score in entry["scores"]:
            place = score["dataset"], score.get("subset", "all"), score["average"]
            percent.update({(*place, "all", alpha): value for alpha, value in score.get("percent", {}).items()})
            for alpha, values in score.get("categories", {}).items():
                percent.update({(*place, category, alpha): value for category, value in values.items()})
        method = PublishedMethod(entry["method"], entry["setting"], percent)
        methods.update(dict.fromkeys([method.name, *entry.get("aliases", [])], method))
    return methods


def find_published(published: str | Mapping[str, str | None] | None, method: str) -> PublishedMethod | None:
    """The published neighbour of a run's ``method`` of prediction (``plain`` or ``aligned``).

    A single name stands for ``plain``; beside ``aligned`` stands what was published as that with pose alignment.

    Raises:
        ResultsError: a method nobody published.
    """
    every = load_published()
    if published is None:
        return None
    name = published.get(method) if isinstance(published, Mapping) else published
    if (isinstance(published, str) and published not in every) or (name is not None and name not in every):
        raise ResultsError(f"no published method is called {name!r}; known: {', '.join(every)}")
    if isinstance(published, str) and method == "aligned":
        return every.get(published + ALIGNED)
    return None if name is None else every[name]


def published_threshold(dataset: str) -> str:
    """What the published PCK of a dataset is relative to: ``box`` or ``image``."""
    return "image" if dataset in IMAGE_THRESHOLD else "box"
