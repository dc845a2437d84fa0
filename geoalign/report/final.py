"""What a run prints when it ends: one table, and where the figures are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from geoalign.data.records import PairSource
from geoalign.keys import alpha_name, pck_key
from geoalign.report.figures import curves, match_panels
from geoalign.report.pck_tables import comparable
from geoalign.report.published import PublishedMethod, find_published
from geoalign.results.summary import SUMMARY_NAME, Evaluation, read_summary

ALIGNED = {"plain": "", "aligned": " + pose alignment"}
COLUMNS = (("all", "image"), ("all", "keypoint"), ("geometry_aware", "keypoint"))


def show(folder: Path, sources: Mapping[str, PairSource]) -> None:
    """Print the table of every result below ``folder``, draw the figures and say where they are."""
    found = sorted((folder / "results").glob(f"*/{SUMMARY_NAME}"), key=lambda p: p.parent.name != "zero-shot")
    summaries = [(path.parent.name, read_summary(path.parent)) for path in found]
    rows = [(name, e, find_published(s["published"], e["method"])) for name, s in summaries for e in s["evaluations"]]
    console = Console(width=max(Console().width, 96))
    for dataset in dict.fromkeys(e["dataset"] for _, e, _ in rows):
        console.print(table([row for row in rows if row[1]["dataset"] == dataset], dataset))
    figures = [match_panels(folder, name, source) for name, source in sources.items()]
    figures += [curves(folder)]
    for path in figures:
        if path is not None:
            console.print(f"figure   {path}", soft_wrap=True)
    console.print(f"results  {folder / 'results'}", soft_wrap=True)


def table(rows: list[tuple[str, Evaluation, PublishedMethod | None]], dataset: str) -> Table:
    """PCK per image and per keypoint, over all keypoints and over the geometry-aware subset; published rows below."""
    first = rows[0][1]
    alphas = [alpha_name(a).lstrip("0") for a in first["alphas"]]
    counts = first["counts"]
    made = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption="img: per image, kp: per keypoint, geo: geometry-aware subset per keypoint",
        title=f"{dataset} {first['split']}: PCK in % over {counts['pairs']} pairs, {counts['keypoints']} keypoints "
        f"({counts['geometry_aware']} geometry-aware)",
    )
    made.add_column("", no_wrap=True)
    for short in ("img", "kp", "geo"):
        for at, alpha in enumerate(alphas):
            made.add_column(f"{short} @{alpha}" if at == 0 else f"@{alpha}", justify="right", no_wrap=True)
    for name, evaluation, published in rows:
        made.add_row(f"{name}{ALIGNED[evaluation['method']]}", *cells(evaluation))
        if published is not None and comparable(evaluation):
            made.add_row(f"  published: {published.name}", *published_cells(published, evaluation), style="dim")
    return made


def cells(evaluation: Evaluation) -> list[str]:
    """One row's numbers in percent; a dash where a subset is empty."""
    keys = [
        pck_key(evaluation["stage"], evaluation["dataset"], a, average, subset=subset, method=evaluation["method"])
        for subset, average in COLUMNS
        for a in evaluation["alphas"]
    ]
    values = evaluation["metrics"]
    return [f"{100 * values[key]:.1f}" if key in values else "–" for key in keys]


def published_cells(published: PublishedMethod, evaluation: Evaluation) -> list[str]:
    """A published row's numbers in percent; a dash where no source gives one."""
    values = [
        published.get(evaluation["dataset"], alpha, average, subset=subset)
        for subset, average in COLUMNS
        for alpha in evaluation["alphas"]
    ]
    return ["–" if value is None else f"{value:.1f}" for value in values]
