"""What a run prints when it ends: one table, and where the figures are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from geoalign.console import LOG
from geoalign.data.records import PairSource
from geoalign.keys import alpha_name
from geoalign.metrics.pck import Score
from geoalign.report.figures import curves, match_panels
from geoalign.report.pck_tables import Row, comparable
from geoalign.report.pose_tables import pose_lines
from geoalign.report.published import find_published
from geoalign.report.runs import SHORT, Evaluated
from geoalign.results.summary import SUMMARY_NAME, read_summary


def show(folder: Path, sources: Mapping[str, PairSource]) -> None:
    """Print the table of every result below ``folder``, draw the figures and say where they are."""
    rows = []
    for path in sorted((folder / "results").glob(f"*/{SUMMARY_NAME}"), key=lambda p: p.parent.name != "zero-shot"):
        summary = read_summary(path.parent)
        every = [Evaluated(path.parent.name, path.parent, evaluation) for evaluation in summary["evaluations"]]
        rows += [Row(one.name, one, find_published(summary["published"], one.method)) for one in every]
    console = Console(width=max(Console().width, 96), record=True)
    for dataset in dict.fromkeys(row.run.dataset for row in rows if row.run):
        here = [row.run for row in rows if row.run and row.run.dataset == dataset]
        console.print(table([row for row in rows if row.run in here], dataset))
        for line in pose_lines(here):
            console.print(f"pose     {line}", soft_wrap=True)
    for figure in (*(match_panels(folder, name, source) for name, source in sources.items()), curves(folder)):
        if figure is not None:
            console.print(f"figure   {figure}", soft_wrap=True)
    console.print(f"results  {folder / 'results'}", soft_wrap=True)
    LOG.info("results\n%s", console.export_text())


def table(rows: Sequence[Row], dataset: str) -> Table:
    """PCK per image and per keypoint, over all keypoints and over the geometry-aware subset; published rows below."""
    first = next(row.run.evaluation for row in rows if row.run)
    counts, alphas = first["counts"], first["alphas"]
    made = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption="img: per image, kp: per keypoint, geo: geometry-aware subset per keypoint",
        title=f"{dataset} {first['split']}: PCK in % over {counts['pairs']} pairs, {counts['keypoints']} keypoints "
        f"({counts['geometry_aware']} geometry-aware)",
    )
    made.add_column("", no_wrap=True)
    for short in SHORT:
        for at, alpha in enumerate(alphas):
            name = f"@{alpha_name(alpha).lstrip('0')}"
            made.add_column(f"{short} {name}" if at == 0 else name, justify="right", no_wrap=True)
    scores = [Score(subset, "all", alpha, average) for subset, average in SHORT.values() for alpha in alphas]
    for row in rows:
        made.add_row(row.label, *(_percent(row.ours(at)) for at in scores))
        if row.published and row.run and comparable(row.run):
            theirs = (_percent(row.theirs(dataset, at)) for at in scores)
            made.add_row(f"  published: {row.published.name}", *theirs, style="dim")
    return made


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
