"""The one way to write a table in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]], *, aligned: bool = False) -> str:
    r"""Header, rule and rows; ``aligned`` for reading as plain text too, with all but the first column to the right.

    >>> print(markdown_table(["run", "PCK"], [["TLR", "82.9"], ["a|b", "-"]], aligned=True))
    | run  |  PCK |
    | ---- | ---: |
    | TLR  | 82.9 |
    | a\|b |    - |
    """
    cells = [list(header), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    widths = [max(map(len, column)) if aligned else 0 for column in zip(*cells, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])] if aligned else ["---"] * len(header)
    cells.insert(1, rule)
    lines = ([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
