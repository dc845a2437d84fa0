"""What the commands share that write one page from the rows that ``benchmarks.run_rows`` left."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

from geoalign.data.records import DataError
from geoalign.files import FileError
from geoalign.report.table import Table, markdown, refuse, write_text
from geoalign.results.predictions import ResultsError


def parser(module: str, about: str | None) -> argparse.ArgumentParser:
    """The command line: the rows' folder, and where the page goes."""
    made = argparse.ArgumentParser(prog=f"python -m geoalign.report.{module}", description=about)
    made.add_argument("folder", type=Path, help="where benchmarks.run_rows left the rows")
    made.add_argument("--out", type=Path, help="write this file instead of printing")
    return made


def page(title: str, about: str, tables: Iterable[Table]) -> str:
    """A title, what the numbers are, and the tables."""
    return "\n".join([f"# {title}", "", about, "", *map(markdown, tables)])


def write(out: Path | None, document: Callable[[], str]) -> int:
    """Print the page, or write it; 2 where there are no results."""
    try:
        text = document()
    except (ResultsError, FileError, DataError) as error:
        return refuse(error)
    write_text(text, out)
    return 0
