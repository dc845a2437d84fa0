"""A table and its three forms: markdown, csv, LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import NamedTuple

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
    cells = [list(table.header), *([show(cell).replace("|", "\\|") for cell in row] for row in table.rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [_line(row, widths) for row in (cells[0], rule, *cells[1:])]
    notes = [f"- {note}" for note in table.notes]
    return "\n".join([f"## {table.title}", "", *lines, *([""] if notes else []), *notes, ""])


def as_csv(tables: Sequence[Table]) -> str:
    """One line per cell of all tables, at full precision; a missing cell's value is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["table", "row", "column", "value", "low", "high"])
    for table in tables:
        for label, *cells in table.rows:
            for column, cell in zip(table.header[1:], cells, strict=True):
                ends = cell if isinstance(cell, Span) else ("", "")
                value = "" if cell is None or isinstance(cell, Span) else cell
                writer.writerow([table.title, label, column, value, *ends])
    return out.getvalue()


def latex(table: Table) -> str:
    """A booktabs table environment."""
    rows = [[_escape(show(cell)) for cell in row] for row in (table.header, *table.rows)]
    body = [" & ".join(row) + r" \\" for row in rows]
    caption = _escape(". ".join([table.title, *table.notes]))
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
            r"\toprule",
            body[0],
            r"\midrule",
            *body[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


FORMATS: dict[str, tuple[str, Callable[[Sequence[Table]], str]]] = {
    "markdown": ("md", lambda tables: "\n".join(map(markdown, tables))),
    "csv": ("csv", as_csv),
    "latex": ("tex", lambda tables: "\n".join(map(latex, tables))),
}
"""Name to file ending and renderer of all tables in one text."""


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first = row[0].ljust(widths[0])
    return (
        "| " + " | ".join([first, *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]) + " |"
    )


def _escape(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", MISSING: "---"}
    special |= {"<": r"$<$", ">": r"$>$", "α": r"$\alpha$", "Δ": r"$\Delta$", "≤": r"$\leq$"}
    special |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
    return "".join(special.get(sign, sign) for sign in text)
