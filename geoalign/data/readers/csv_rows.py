"""Rows of a CSV file with checked columns; errors name file, line and column."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from geoalign.data.records import DataError
from geoalign.data.validation import RESTORE, Fields, read_text


def read_rows(path: Path, required: Sequence[str], remedy: str = RESTORE) -> list[Fields]:
    """The rows as fields of text under the header's names; blank lines are left out, ragged rows are errors."""
    reader = csv.reader(io.StringIO(read_text(path, remedy), newline=""), strict=True)
    rows: list[Fields] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        if len(set(header)) < len(header) or not set(required) <= set(header):
            raise DataError.at(path, "header", f"distinct columns with {', '.join(required)}", header[:12], remedy)
        for values in reader:
            where = f"line {reader.line_num}"
            if not any(value.strip() for value in values):
                continue
            if len(values) != len(header):
                raise DataError.at(path, where, f"{len(header)} values", f"{len(values)}", remedy)
            texts = dict(zip(header, (value.strip() for value in values), strict=True))
            rows.append(Fields(path, texts, f"{where}: ", remedy))
    except csv.Error as error:
        raise DataError.at(path, f"line {reader.line_num}", "valid CSV", str(error), remedy) from error
    if not rows:
        raise DataError.at(path, "rows", "at least one row", "none", remedy)
    return rows


def coordinate(row: Fields, key: str) -> float | None:
    """A finite number of px, or None where the cell is empty or ``NaN`` (absent)."""
    text = str(row.value(key))
    if text == "" or text.lower() == "nan":
        return None
    try:
        number = float(text)
    except ValueError as error:
        raise row.fail(key, "a number of px, or empty", text) from error
    if not math.isfinite(number) or abs(number) > 1e9:
        raise row.fail(key, "a finite number of px", text)
    return number
