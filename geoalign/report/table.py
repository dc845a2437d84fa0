"""A table and its three forms: markdown, csv, LaTeX."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from geoalign.files import replacing
from geoalign.markdown import markdown_table

MISSING = "—"


class Signed(float):
    """A difference, always shown with its sign."""


class Span(NamedTuple):
    """An interval."""

    low: float
    high: float


Cell = str | int | float | Span | None


class Table(NamedTuple):
    """Rows under a header; a cell of None is missing and never shown as a number."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()


def show(cell: Cell) -> str:
    """A cell's text: one decimal, a dash where missing.

    >>> [show(cell) for cell in (None, 82.94, Signed(0.31), Signed(-0.04), Span(81.0, 84.21), 150, "TLR")]
    ['—', '82.9', '+0.3', '0.0', '[81.0, 84.2]', '150', 'TLR']
    """
    if cell is None:
        return MISSING
    if isinstance(cell, Span):
        return f"[{cell.low:.1f}, {cell.high:.1f}]"
    if isinstance(cell, Signed):
        return f"{cell:+.1f}" if round(cell, 1) else "0.0"
    return f"{cell:.1f}" if isinstance(cell, float) else str(cell)


def markdown(table: Table) -> str:
    """The table as markdown, aligned for reading as plain text too."""
    body = markdown_table(table.header, [list(map(show, row)) for row in table.rows], aligned=True)
    notes = [f"- {note}" for note in table.notes]
    return "\n".join([f"## {table.title}", "", body, *([""] if notes else []), *notes, ""])


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """One line per row, at full precision; a missing cell is empty."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([header, *rows])
    return out.getvalue()


def as_csv(tables: Sequence[Table]) -> str:
    """One line per cell of all tables; an interval has two ends and no value."""
    lines = [
        (table.title, label, column, *((None, *cell) if isinstance(cell, Span) else (cell, None, None)))
        for table in tables
        for label, *cells in table.rows
        for column, cell in zip(table.header[1:], cells, strict=True)
    ]
    return csv_text(["table", "row", "column", "value", "low", "high"], lines)


def latex(table: Table) -> str:
    """A booktabs table environment."""
    rows = [[_escape(show(cell)) for cell in row] for row in (table.header, *table.rows)]
    body = [" & ".join(row) + r" \\" for row in rows]
    caption = _escape(". ".join([table.title, *table.notes]))
    head = [r"\begin{table}", r"\centering", rf"\caption{{{caption}}}"]
    tabular = [rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}", r"\toprule", body[0], r"\midrule", *body[1:]]
    return "\n".join([*head, *tabular, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


FORMATS: dict[str, tuple[str, Callable[[Sequence[Table]], str]]] = {
    "markdown": ("md", lambda tables: "\n".join(map(markdown, tables))),
    "csv": ("csv", as_csv),
    "latex": ("tex", lambda tables: "\n".join(map(latex, tables))),
}
"""Name to file ending and renderer of all tables in one text."""


def write_text(text: str, path: Path | None) -> None:
    """Write a page, whole or not at all, and print where; print the page itself without a path."""
    if path is not None:
        with replacing(path) as partial:
            partial.write_text(text, encoding="utf-8")
    print(text if path is None else path)


def refuse(error: Exception) -> int:
    """Say in one line why there is no table; the exit code."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


def _escape(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", MISSING: "---"}
    special |= {"<": r"$<$", ">": r"$>$", "α": r"$\alpha$", "Δ": r"$\Delta$", "≤": r"$\leq$"}
    special |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
    return "".join(special.get(sign, sign) for sign in text)
