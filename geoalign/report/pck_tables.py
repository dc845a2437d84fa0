"""PCK tables: ours beside published, per dataset, subset and average."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from geoalign.keys import alpha_name
from geoalign.metrics.pck import Score
from geoalign.report.published import PublishedMethod, find_published, load_facts, load_published, published_threshold
from geoalign.report.runs import Evaluated, Run, check_one_protocol
from geoalign.report.table import Cell, Signed, Table

SUBSETS = ("all", "geometry_aware")
AVERAGES = ("image", "keypoint")


class Row(NamedTuple):
    """One line: a run under a method, with its published neighbour; ``run`` is None where it left nothing."""

    label: str
    run: Evaluated | None
    published: PublishedMethod | None

    def ours(self, at: Score) -> float | None:
        """Our score in percent, or None."""
        return None if self.run is None else self.run.score(at)

    def theirs(self, dataset: str, at: Score) -> float | None:
        """The published percentage, or None where none is known or ours is measured otherwise."""
        if self.published is None or (self.run is not None and not comparable(self.run)):
            return None
        return self.published.get(dataset, at.alpha, at.average, subset=at.subset, category=at.category)

    def cells(self, dataset: str, at: Score) -> list[Cell]:
        """Ours, its interval, published, and the difference."""
        ours, theirs = self.ours(at), self.theirs(dataset, at)
        return [ours, None if self.run is None else self.run.interval(at), theirs, difference(ours, theirs)]


def difference(ours: float | None, theirs: float | None) -> Signed | None:
    """Ours less theirs, or None where either is missing."""
    return None if ours is None or theirs is None else Signed(ours - theirs)


def pck_tables(runs: Sequence[Run], others: bool = False) -> list[Table]:
    """Every table for which some run has a score; ``others`` adds the published methods nobody ran.

    Raises:
        ResultsError: runs of different protocols would share a column.
    """
    tables = []
    for dataset, rows in datasets(runs):
        alphas = sorted({a for row in rows if row.run for a in row.run.evaluation["alphas"]}, reverse=True)
        for subset in SUBSETS:
            for average in AVERAGES:
                scores = [Score(subset, "all", alpha, average) for alpha in alphas]
                if any(row.ours(at) is not None for row in rows for at in scores):
                    tables.append(_pck_table(dataset, rows, scores, others))
    return tables


def category_tables(runs: Sequence[Run], alpha: float) -> list[Table]:
    """Scores by category at one threshold, each run followed by its published neighbour and the difference."""
    tables = []
    for dataset, rows in datasets(runs):
        categories = sorted({name for row in rows if row.run for name in row.run.evaluation["categories"]})
        for average in AVERAGES:
            scores = [Score("all", category, alpha, average) for category in (*categories, "all")]
            if any(row.ours(at) is not None for row in rows for at in scores):
                lines = [line for row in rows for line in _category_lines(row, dataset, scores)]
                title = f"{dataset}: PCK@{alpha_name(alpha)} per {average} by category, %"
                tables.append(Table(title, ["run", *(at.category for at in scores)], lines, notes(dataset, rows)))
    return tables


def rows_of(runs: Sequence[Run], dataset: str) -> list[Row]:
    """One row per run and method; a run without the dataset keeps an empty row."""
    rows = []
    for run in runs:
        published = run.summary["published"] if run.summary else None
        own = [one for one in run.evaluated if one.dataset == dataset]
        rows += [Row(one.name, one, find_published(published, one.method)) for one in own]
        if not own:
            rows.append(Row(run.label, None, find_published(published, "plain")))
    check_one_protocol(dataset, [row.run for row in rows if row.run])
    return rows


def comparable(one: Evaluated) -> bool:
    """Whether published numbers may stand beside it (docs/protocol.md#published-numbers)."""
    relative = one.evaluation["protocol"]["threshold"]
    return one.evaluation["split"] == "test" and relative == published_threshold(one.dataset)


def datasets(runs: Sequence[Run]) -> Iterator[tuple[str, list[Row]]]:
    """Every dataset that a run was tested on, with a row per run and method."""
    for dataset in dict.fromkeys(one.dataset for run in runs for one in run.evaluated):
        yield dataset, rows_of(runs, dataset)


def _pck_table(dataset: str, rows: Sequence[Row], scores: Sequence[Score], others: bool) -> Table:
    subset, average = scores[0].subset, scores[0].average
    kind = "" if subset == "all" else f", {subset.replace('_', '-')} keypoints"
    header = ["run"]
    for at in scores:
        name = f"@{alpha_name(at.alpha)}"
        header += [name, f"{name} 95 %", f"{name} published", f"{name} Δ"]
    lines = [[row.label, *(cell for at in scores for cell in row.cells(dataset, at))] for row in rows]
    beside = {row.published.name for row in rows if row.published}
    for name, other in {other.name: other for other in load_published().values()}.items() if others else ():
        given = [other.get(dataset, at.alpha, average, subset=subset) for at in scores]
        if name not in beside and any(value is not None for value in given):
            lines.append([name, *(cell for value in given for cell in (None, None, value, None))])
    return Table(f"{dataset}: PCK per {average}{kind}, %", header, lines, notes(dataset, rows))


def _category_lines(row: Row, dataset: str, scores: Sequence[Score]) -> list[list[Cell]]:
    ours, theirs = [row.ours(at) for at in scores], [row.theirs(dataset, at) for at in scores]
    lines: list[list[Cell]] = [[row.label, *ours]]
    if row.published and any(value is not None for value in theirs):
        lines.append([f"{row.published.name} (published)", *theirs])
        lines.append(["Δ", *map(difference, ours, theirs)])
    return lines


def notes(dataset: str, rows: Sequence[Row]) -> list[str]:
    """What the scores of a dataset's rows are of, and under which protocol."""
    measured = [row.run for row in rows if row.run]
    first = measured[0].evaluation
    protocol, counts = first["protocol"], first["counts"]
    limit = f"error {protocol['comparison']} α · {protocol['threshold']} size"
    images = f"images {protocol['image_protocol']}, {protocol['frame_px']} px"
    notes = [
        f"{first['split']} split, {counts['pairs']} pairs, {counts['keypoints']} keypoints "
        f"({counts['geometry_aware']} geometry-aware)",
        f"correct: {limit}; {images}; intervals: bootstrap over pairs, {first['bootstrap']['samples']:g} samples",
    ]
    full = load_facts()["test_pairs"].get(dataset)
    if full is not None and counts["pairs"] != full:
        notes.append(f"only {counts['pairs']} of the {full} test pairs: not like for like with published numbers")
    if not all(map(comparable, measured)):
        relative = published_threshold(dataset)
        notes.append(f"published numbers are left out: they are of the test split, relative to the {relative}")
    return notes
