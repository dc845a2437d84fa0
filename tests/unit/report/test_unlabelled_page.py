"""The page on photographs without keypoints: its rows, and pseudo-labels held against the truth."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_runs import make_rows, write_run

from benchmarks.oracle_labels import true_points
from geoalign.data.readers.pseudo import COLUMNS, PseudoFile
from geoalign.data.records import ImageRecord
from geoalign.report.unlabelled import hold, main
from geoalign.symmetry import Symmetry


def test_rows_that_are_there_are_shown(tmp_path, capsys):
    for name in ("livestock-zero_shot", "livestock_unlabelled-pseudo"):
        table = make_rows(30.0, pairs=10)
        index = table["pair_id"].str.removeprefix("pair").astype(int)
        table["pair_id"] = [f"{i:06d}-a_{i % 5}-b_{i % 3}:horse" for i in index]
        write_run(tmp_path / name / "results" / "refined", name, {"plain": table}, dataset="livestock")
    assert main([str(tmp_path)]) == 0
    page = capsys.readouterr().out
    assert "| zero-shot " in page
    assert "| pseudo-labels " in page
    assert "no_flips" not in page
    assert main([str(tmp_path / "none")]) == 2


@pytest.fixture
def records():
    """Slots 0 and 1 are mirror partners; the second photograph is the first one's mirror image."""
    first = np.array([[20, 50], [80, 60]], np.float32)
    second = np.array([[20, 60], [80, 50]], np.float32)
    seen = np.ones(2, bool)
    return {
        name: ImageRecord(name, Path(name), (100, 100), "cat", xy, seen, (0, 0, 100, 100))
        for name, xy in (("a", first), ("b", second))
    }


def labelled(shift):
    """Points near the first photograph's keypoints, and one of none; the second's first point is off by ``shift``."""
    rows = [
        (0, "a", False, 0, 21, 50, 1), (0, "a", False, 1, 80, 60, 1), (0, "a", False, 2, 50, 10, 1),
        (0, "b", True, 0, 79, 50 + shift, 1), (0, "b", True, 1, 20, 60, 1), (0, "b", True, 2, 50, 10, 1),
    ]  # fmt: skip
    return PseudoFile(pd.DataFrame([dict(zip(COLUMNS, row, strict=True)) for row in rows]).astype(COLUMNS), {}, {})


MIRRORS = {"cat": Symmetry(("l", "r"), ((0, 1),), ())}


@pytest.mark.parametrize("shift", [0, 30])
def test_a_match_is_right_where_the_hidden_keypoint_lies(records, shift):
    held = hold(labelled(shift), records, MIRRORS)
    assert (held.sets, held.points) == (1, 3.0)
    if not shift:
        assert (held.held, held.precision) == (4, 1.0)
    else:  # moved away from its keypoint it is no longer held on the way back
        assert (held.held, held.precision) == (3, pytest.approx(2 / 3))


def test_an_oracle_is_right_throughout(records):
    """The same sets, whatever their points were; a mirrored photograph shows the other side."""
    truth = true_points(labelled(30), records, MIRRORS)
    assert truth.table[["point", "x", "y"]].to_numpy().tolist() == [[0, 20, 50], [1, 80, 60], [0, 80, 50], [1, 20, 60]]
    assert hold(truth, records, MIRRORS) == (1, 2.0, 4, 1.0)
