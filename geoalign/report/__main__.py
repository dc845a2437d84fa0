"""Tables of runs beside published numbers, and paired tests."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from geoalign.files import FileError
from geoalign.report.table import FORMATS, MISSING, Table, refuse, write_text

EXAMPLES = """examples:
  geoalign report runs/train                                       what differs, a row per run
  geoalign report multirun/train/<sweep> --sort kp@0.05 --best 3   the three best jobs
  geoalign report runs --columns img@0.10 geo interval             these scores with their intervals
  geoalign report results/spair71k --full --published all          every average and subset, beside published numbers"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print or write the tables; 2 where the runs do not allow them."""
    options = parser().parse_args(arguments)
    if not options.folders and not options.compare:
        parser().error("give the folders of runs, or --compare RUN_A RUN_B")
    if options.best is not None and options.best < 1:
        parser().error(f"--best counts rows and is at least 1, got {options.best}")
    from geoalign.results.predictions import ResultsError

    try:
        tables = make_tables(options)
    except (ResultsError, FileError) as error:
        return refuse(error)
    for form in options.format if options.out else options.format[:1]:
        ending, render = FORMATS[form]
        write_text(render(tables), options.out and options.out / f"{options.name}.{ending}")
    return 0


def make_tables(options: argparse.Namespace) -> list[Table]:
    """The tables asked for."""
    from geoalign.report.overview import View, overview
    from geoalign.report.pck_tables import category_tables, pck_tables
    from geoalign.report.pose_tables import pose_tables
    from geoalign.report.runs import collect
    from geoalign.report.significance import compare

    tables = list[Table]()
    if options.folders:
        runs = collect(options.folders, options.expect)
        if options.full or options.published == "all":
            tables += [*pck_tables(runs, others=options.published == "all"), *pose_tables(runs)]
        else:
            tables += overview(runs, View(options.columns, options.sort, options.best))
        tables = tables or [_nothing([run.label for run in runs])]
        if options.categories is not None:
            tables += category_tables(runs, options.categories)
    if options.compare:
        tables += compare(*options.compare, samples=options.samples, seed=options.seed)
    return tables


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="geoalign report",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("folders", nargs="*", type=Path, metavar="DIR", help="a run, or a folder that holds runs")
    made.add_argument(
        "--columns", nargs="+", default=[], metavar="NAME",
        help="img, kp, geo or <subset>/<average>, at every threshold or at one (kp@0.05); interval, published: beside "
        "each (img and kp at every threshold, geo at the widest)",
    )  # fmt: skip
    made.add_argument("--sort", metavar="NAME", help="a score, such as kp@0.05: best rows first (as on disk)")
    made.add_argument("--best", nargs="?", type=int, const=1, metavar="N", help="only the N best rows by it (1)")
    made.add_argument("--full", action="store_true", help="a table per subset and average, intervals, published, poses")
    made.add_argument("--expect", nargs="+", default=[], metavar="NAME", help="runs to list even where missing")
    made.add_argument("--format", nargs="+", choices=FORMATS, default=["markdown"], help="several only with --out")
    made.add_argument("--out", type=Path, metavar="DIR", help="write files there instead of printing")
    made.add_argument("--name", default="tables", help="name of the written files")
    made.add_argument(
        "--published", choices=["neighbours", "all"], default="neighbours", help="all: also other methods; as --full"
    )
    made.add_argument("--categories", type=float, metavar="ALPHA", help="also tables by category at this threshold")
    made.add_argument("--compare", nargs=2, metavar="RUN", help="paired tests of two runs (FOLDER or FOLDER:aligned)")
    made.add_argument("--samples", type=int, default=2000, help="resamples of the paired tests")
    made.add_argument("--seed", type=int, default=0, help="seed of the paired tests")
    return made


def _nothing(labels: Sequence[str]) -> Table:
    return Table("No results yet", ["run", "PCK"], [[label, None] for label in labels], [f"{MISSING}: missing"])


if __name__ == "__main__":
    sys.exit(main())
