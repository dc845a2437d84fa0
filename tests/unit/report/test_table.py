import csv
import io

import pytest

from geoalign.report.table import MISSING, Signed, Span, Table, as_csv, latex, markdown, show

TABLE = Table(
    "Scores & more",
    ["run", "@0.10", "@0.10 95 %", "@0.10 Δ", "n"],
    [["ours_1", 82.94, Span(82.0, 84.0), Signed(0.04), 150], ["a|b", None, None, None, None]],
    ["error < α"],
)


def test_markdown_has_equal_columns_and_a_dash_for_what_is_missing():
    lines = [line for line in markdown(TABLE).splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    assert lines[-1].count(MISSING) == 4
    assert r"a\|b" in lines[-1]


def test_csv_keeps_precision_and_leaves_missing_cells_empty():
    rows = list(csv.DictReader(io.StringIO(as_csv([TABLE, TABLE]))))
    assert len(rows) == 16
    first = {row["column"]: row for row in rows[:4]}
    assert float(first["@0.10"]["value"]) == 82.94
    assert (first["@0.10 95 %"]["low"], first["@0.10 95 %"]["high"]) == ("82.0", "84.0")
    assert all(row["value"] == row["low"] == "" for row in rows[4:8])


def test_latex_escapes_and_is_balanced():
    text = latex(TABLE)
    assert r"ours\_1 & 82.9 & [82.0, 84.0] & 0.0 & 150 \\" in text
    assert r"Scores \& more" in text
    assert r"95 \%" in text
    assert text.count(r"\begin") == text.count(r"\end") == 2
    assert MISSING not in text


@pytest.mark.parametrize("cell", [None, "", 0, 0.0, Signed(0.0), Span(0.0, 0.0)])
def test_only_none_is_missing(cell):
    assert (show(cell) == MISSING) == (cell is None)
