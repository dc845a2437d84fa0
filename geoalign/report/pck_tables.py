"""PCK tables: ours beside published, per dataset, subset and average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from geoalign.keys import alpha_name, pck_key
from geoalign.metrics.pck import Score
from geoalign.report.published import PublishedMethod, find_published, load_facts, load_published, published_threshold
from geoalign.report.runs import Run, check_one_protocol
from geoalign.report.table import Cell, Signed, Span, Table
from geoalign.results.summary import Evaluation

SUBSETS = ("all", "geometry_aware")
AVERAGES = ("image", "keypoint")
METHOD = {"plain": "", "aligned": " + pose alignment"}


class Row(NamedTuple):
    """One line: a run under a method, with its published neighbour; None where the run left nothing."""

    label: str
    evaluation: Evaluation | None
    published: PublishedMethod | None

    def ours(self, at: Score) -> float | None:
        """Our score in percent, or None."""
        value = self.evaluation["metrics"].get(_key(self.evaluation, at)) if self.evaluation else None
        return None if value is None else 100 * value

    def interval(self, at: Score) -> Span | None:
        """Our interval in percent, or None."""
        ends = self.evaluation["intervals"].get(_key(self.evaluation, at)) if self.evaluation else None
        return None if ends is None else Span(*(100 * end for end in ends))

    def theirs(self, dataset: str, at: Score) -> float | None:
        """The published percentage, or None where none is known or ours is measured otherwise."""
        if self.published is None or (self.evaluation and not comparable(self.evaluation)):
            return None
        return self.published.get(dataset, at.alpha, at.average, subset=at.subset, category=at.category)

    def cells(self, dataset: str, at: Score) -> list[Cell]:
        """Ours, its interval, published, and the difference."""
        ours, theirs = self.ours(at), self.theirs(dataset, at)
        return [ours, self.interval(at), theirs, difference(ours, theirs)]


def difference(ours: float | None, theirs: float | None) -> Signed | None:
    """Ours less theirs, or None where either is missing."""
    return None if ours is None or theirs is None else Signed(ours - theirs)


def pck_tables(runs: Sequence[Run], others: bool = False) -> list[Table]:
    """Every table for which some run has a score; ``others`` adds the published methods nobody ran.

    Raises:
        ResultsError: runs of different protocols would share a column.
    """
    tables = []
    for dataset in _datasets(runs):
        rows = rows_of(runs, dataset)
        alphas = sorted({a for row in rows if row.evaluation for a in row.evaluation["alphas"]}, reverse=True)
        for subset in SUBSETS:
            for average in AVERAGES:
                scores = [Score(subset, "all", alpha, average) for alpha in alphas]
                if any(row.ours(at) is not None for row in rows for at in scores):
                    tables.append(_pck_table(dataset, rows, scores, others))
    return tables


def category_tables(runs: Sequence[Run], alpha: float) -> list[Table]:
    """Scores by category at one threshold, each run followed by its published neighbour and the difference."""
    tables = []
    for dataset in _datasets(runs):
        rows = rows_of(runs, dataset)
        for average in AVERAGES:
            categories = sorted({name for row in rows if row.evaluation for name in row.evaluation["categories"]})
            scores = [Score("all", category, alpha, average) for category in (*categories, "all")]
            if any(row.ours(at) is not None for row in rows for at in scores):
                lines = [line for row in rows for line in _category_lines(row, dataset, scores)]
                title = f"{dataset}: PCK@{alpha_name(alpha)} per {average} by category, %"
                tables.append(Table(title, ["run", *(at.category for at in scores)], lines, _notes(dataset, rows)))
    return tables


def rows_of(runs: Sequence[Run], dataset: str) -> list[Row]:
    """One row per run and method; a run without the dataset keeps an empty row."""
    rows = []
    for run in runs:
        published = run.summary["published"] if run.summary else None
        found = [evaluation for evaluation in run.evaluations if evaluation["dataset"] == dataset]
        for evaluation in found:
            method = evaluation["method"]
            label = run.label + METHOD.get(method, f" ({method})")
            rows.append(Row(label, evaluation, find_published(published, method)))
        if not found:
            rows.append(Row(run.label, None, find_published(published, "plain")))
    check_one_protocol(dataset, [(row.label, row.evaluation) for row in rows if row.evaluation])
    return rows


def _pck_table(dataset: str, rows: Sequence[Row], scores: Sequence[Score], others: bool) -> Table:
    subset, average = scores[0].subset, scores[0].average
    kind = "" if subset == "all" else f", {subset.replace('_', '-')} keypoints"
    header = ["run"]
    for at in scores:
        name = f"@{alpha_name(at.alpha)}"
        header += [name, f"{name} 95 %", f"{name} published", f"{name} Δ"]
    lines = [[row.label, *(cell for at in scores for cell in row.cells(dataset, at))] for row in rows]
    if others:
        beside = {row.published.name for row in rows if row.published}
        for other in {published.name: published for published in load_published().values()}.values():
            given = [other.get(dataset, at.alpha, average, subset=subset) for at in scores]
            if other.name not in beside and any(value is not None for value in given):
                lines.append([other.name, *(cell for value in given for cell in (None, None, value, None))])
    return Table(f"{dataset}: PCK per {average}{kind}, %", header, lines, _notes(dataset, rows))


def _category_lines(row: Row, dataset: str, scores: Sequence[Score]) -> list[list[Cell]]:
    ours, theirs = [row.ours(at) for at in scores], [row.theirs(dataset, at) for at in scores]
    lines: list[list[Cell]] = [[row.label, *ours]]
    if row.published and any(value is not None for value in theirs):
        lines.append([f"{row.published.name} (published)", *theirs])
        lines.append(["Δ", *(difference(a, b) for a, b in zip(ours, theirs, strict=True))])
    return lines


def _notes(dataset: str, rows: Sequence[Row]) -> list[str]:
    evaluations = [row.evaluation for row in rows if row.evaluation]
    first = evaluations[0]
    protocol, counts, bootstrap = first["protocol"], first["counts"], first["bootstrap"]
    limit = f"error {protocol['comparison']} α · {protocol['threshold']} size"
    images = f"images {protocol['image_protocol']}, {protocol['frame_px']} px"
    notes = [
        f"{first['split']} split, {counts['pairs']} pairs, {counts['keypoints']} keypoints "
        f"({counts['geometry_aware']} geometry-aware)",
        f"correct: {limit}; {images}; intervals: bootstrap over pairs, {bootstrap['samples']:g} samples",
    ]
    full = load_facts()["test_pairs"].get(dataset)
    if full is not None and counts["pairs"] != full:
        notes.append(f"only {counts['pairs']} of the {full} test pairs: not like for like with published numbers")
    if not all(comparable(evaluation) for evaluation in evaluations):
        relative = published_threshold(dataset)
        notes.append(f"published numbers are left out: they are of the test split, relative to the {relative}")
    return notes


def comparable(evaluation: Evaluation) -> bool:
    """Whether published numbers may stand beside it: the test split, relative to the same size."""
    threshold = published_threshold(evaluation["dataset"])
    return evaluation["split"] == "test" and evaluation["protocol"]["threshold"] == threshold


def _datasets(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(e["dataset"] for run in runs for e in run.evaluations))


def _key(evaluation: Evaluation, at: Score) -> str:
    names = {"subset": at.subset, "method": evaluation["method"], "category": at.category}
    return pck_key(evaluation["stage"], evaluation["dataset"], at.alpha, at.average, **names)
