"""One table per dataset that shows what differs: rows sorted and cut, columns chosen, what says nothing left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple

from geoalign.keys import alpha_name
from geoalign.metrics.functional import SUBSETS
from geoalign.metrics.pck import Score
from geoalign.report.pck_tables import Row, datasets, difference, notes
from geoalign.report.runs import SHORT, Run
from geoalign.report.table import Cell, Table
from geoalign.results.predictions import ResultsError

BESIDE = ("interval", "published")
"""Columns that may follow every score."""
EXPLAINED = "img: per image, kp: per keypoint, geo: geometry-aware keypoints, per keypoint"


class View(NamedTuple):
    """What is asked of a table: names of columns (none: the usual ones), of the one to sort by, how many rows."""

    columns: Sequence[str] = ()
    sort: str | None = None
    best: int | None = None


def overview(runs: Sequence[Run], view: View) -> list[Table]:
    """A table per dataset; runs whose numbers are all the same share a row.

    Raises:
        ResultsError: runs of different protocols, or a column that no run has.
    """
    return [_table(dataset, rows, view) for dataset, rows in datasets(runs)]


def _table(dataset: str, rows: Sequence[Row], view: View) -> Table:
    alphas = sorted({a for row in rows if row.run for a in row.run.evaluation["alphas"]}, reverse=True)
    beside = [name for name in view.columns if name in BESIDE]
    scores = [at for name in view.columns if name not in BESIDE for at in named_scores(name, alphas)]
    scores = scores or [at for at in usual_scores(alphas) if any(row.ours(at) is not None for row in rows)]
    if view.sort is not None or view.best is not None:
        by = scores[0] if view.sort is None else named_scores(view.sort, alphas)[0]
        rows = sorted(rows, key=lambda row: (row.ours(by) is None, -(row.ours(by) or 0.0)))
    table = [(row.label, [cell for at in scores for cell in _cells(row, dataset, at, beside)]) for row in rows]
    lines = [[label, *cells] for label, cells in merged(table)][: view.best]
    header = ["run", *(name for at in scores for name in _names(at, beside))]
    filled = [i for i in range(len(header)) if i == 0 or any(line[i] is not None for line in lines)]
    told = [*notes(dataset, rows), EXPLAINED] if any(at.subset != "all" for at in scores) else notes(dataset, rows)
    return Table(f"{dataset}: PCK, %", [header[i] for i in filled], [[line[i] for i in filled] for line in lines], told)


def usual_scores(alphas: Sequence[float]) -> list[Score]:
    """Per image and per keypoint at every threshold; geometry-aware keypoints at the widest."""
    all_keypoints = [Score("all", "all", alpha, average) for average in ("image", "keypoint") for alpha in alphas]
    return [*all_keypoints, *(Score("geometry_aware", "all", alpha, "keypoint") for alpha in alphas[:1])]


def named_scores(name: str, alphas: Sequence[float]) -> list[Score]:
    """``img``, ``kp``, ``geo`` or ``<subset>/image``, ``<subset>/keypoint`` at every threshold, or at one: ``kp@0.05``.

    >>> named_scores("geo@0.05", [0.1, 0.05])
    [Score(subset='geometry_aware', category='all', alpha=0.05, average='keypoint')]
    """
    what, _, at = name.partition("@")
    subset, average = SHORT.get(what, what.partition("/")[::2])
    chosen = [alpha for alpha in alphas if not at or alpha_name(alpha) == at or str(alpha) == at]
    if subset not in ("all", *SUBSETS) or average not in ("image", "keypoint", "macro_image", "macro_keypoint"):
        raise ResultsError(
            f"no score is called {name!r}; expected {', '.join(SHORT)} or <subset>/<average> such as mirror/keypoint, "
            f"each with or without @<threshold>, or {' or '.join(BESIDE)}"
        )
    if not chosen:
        raise ResultsError(f"{name!r} asks for a threshold that no run has; they have {', '.join(map(str, alphas))}")
    return [Score(subset, "all", alpha, average) for alpha in chosen]


def merged(table: Sequence[tuple[str, list[Cell]]]) -> Iterator[tuple[str, list[Cell]]]:
    """Rows with the same cells as one, called by what their labels begin with and how many they are.

    Rows that hold nothing stay apart: each names a run that is missing.

    >>> list(merged([("sweep, frozen: a=1 + x", [44.2]), ("sweep: a=1", [60.1]), ("sweep, frozen: a=2 + x", [44.2])]))
    [('sweep, frozen + x (2 alike)', [44.2]), ('sweep: a=1', [60.1])]
    """
    alike: dict[object, list[str]] = {}
    for label, cells in table:
        key = tuple(cells) if any(cell is not None for cell in cells) else label
        alike.setdefault(key, []).append(label)
    for label, cells in table:
        labels = alike.pop(tuple(cells), None) or alike.pop(label, None)
        if labels is None:
            continue
        if len(labels) > 1:
            yield f"{_shared(labels) or labels[0]} ({len(labels)} alike)", cells
        else:
            yield label, cells


def _shared(labels: Sequence[str]) -> str:
    """The words with which all labels begin, and those with which all end."""
    words = [label.split() for label in labels]
    begin = [same[0] for same in takewhile(lambda same: len(set(same)) == 1, zip(*words, strict=False))]
    rest = zip(*(reversed(own[len(begin) :]) for own in words), strict=False)
    end = [same[0] for same in takewhile(lambda same: len(set(same)) == 1, rest)]
    return " ".join([*" ".join(begin).rstrip(":").split(), *reversed(end)])


def _cells(row: Row, dataset: str, at: Score, beside: Sequence[str]) -> Iterator[Cell]:
    ours = row.ours(at)
    yield ours
    if "interval" in beside:
        yield None if row.run is None else row.run.interval(at)
    if "published" in beside:
        theirs = row.theirs(dataset, at)
        yield from (theirs, difference(ours, theirs))


def _names(at: Score, beside: Sequence[str]) -> Iterator[str]:
    short = {place: name for name, place in SHORT.items()}.get((at.subset, at.average), f"{at.subset}/{at.average}")
    name = f"{short}@{alpha_name(at.alpha)}"
    yield name
    if "interval" in beside:
        yield f"{name} 95 %"
    if "published" in beside:
        yield from (f"{name} published", f"{name} Δ")
