"""Tables of how poses were chosen."""

import pytest
from report_runs import make_rows, write_run

from geoalign.report.__main__ import main
from geoalign.report.pose_tables import pose_lines, pose_tables
from geoalign.report.runs import collect
from geoalign.results.summary import read_summary, write_summary


@pytest.fixture
def run(tmp_path):
    folder = write_run(tmp_path / "run", "mine", {"plain": make_rows(60.0), "aligned": make_rows(30.0)})
    summary = read_summary(folder)
    (aligned,) = (one for one in summary["evaluations"] if one["method"] == "aligned")
    aligned["metrics"] |= {
        "test/spair71k/pose/right_where_azimuth_decides": 0.75,
        "test/spair71k/pose/right_same_side": 0.5,
        "test/spair71k/aligned_oracle/pck@0.10/keypoint": 0.99,
    }
    write_summary(folder, summary)
    return folder


def test_right_choices_stand_beside_the_gain_and_the_oracles(run, capsys):
    (table,) = pose_tables(collect([run]))
    (row,) = table.rows
    label, right, same, opposite, before, after, gain, best, most = row
    assert (label, right, same, opposite, best) == ("mine", 75.0, 50.0, None, 99.0)
    assert gain == pytest.approx(after - before)
    assert most == pytest.approx(99 - before)
    assert main([str(run), "--full"]) == 0
    assert "oracle" in capsys.readouterr().out


def test_the_end_of_a_run_says_it_in_a_line(run):
    (line,) = pose_lines(collect([run])[0].evaluated)
    assert "right 75.0, same side 50.0, upright @0.10" in line


def test_a_run_that_says_nothing_of_poses_has_no_table(tmp_path):
    assert not pose_tables(
        collect([write_run(tmp_path / "old", "old", {"plain": make_rows(), "aligned": make_rows()})])
    )
