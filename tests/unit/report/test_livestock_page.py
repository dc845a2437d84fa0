"""The page on real photographs: rows that are there, intervals over photographs, gains against frozen features."""

import pytest
from report_runs import make_rows, write_run

from geoalign.report.livestock import MAIN, SCORES, image_interval, main, read
from geoalign.results.summary import read_summary, write_summary


def row(folder, name, noise, seed=None, methods=("plain",), **about):
    tables = {method: rows_of(noise / (1 + 2 * i), seed) for i, method in enumerate(methods)}
    place = folder / f"livestock-{name}" / ("" if seed is None else f"seed-{seed}") / "results" / "refined"
    return write_run(place, name, tables, dataset="livestock", **about)


def rows_of(noise, seed):
    table = make_rows(noise, pairs=40, seed=seed or 7)
    index = table["pair_id"].str.removeprefix("pair").astype(int)
    table["pair_id"] = [f"{i:06d}-horse_test_{i % 5}-horse_test_{5 + i % 3}:horse" for i in index]
    return table


def judged(folder, right):
    """Say in a result how often poses were chosen rightly."""
    summary = read_summary(folder)
    for one in summary["evaluations"]:
        if one["method"] == "aligned":
            one["metrics"]["test/livestock/pose/right_where_azimuth_decides"] = right
    write_summary(folder, summary)


@pytest.fixture
def rows(tmp_path):
    row(tmp_path, "zero_shot", 60.0)
    row(tmp_path, "zero_shot_leave_sheep", 90.0, fingerprint="other")
    for seed in (1, 2, 3):
        row(tmp_path, "refined", 25.0, seed)
        row(tmp_path, "no_dense", 50.0, seed)
        row(tmp_path, "leave_sheep", 60.0, seed, fingerprint="other")
    return tmp_path


def test_the_page_tells_what_is_there(rows, capsys):
    out = rows / "page.md"
    assert main([str(rows), "--out", str(out)]) == 0
    text = out.read_text()
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert "hurts" in lines[MAIN["no_dense"]]
    assert MAIN["no_window"] not in lines
    assert " → " in lines["trained without sheep, tested on it"]
    assert lines["mean gain, a source left out"].count("+") >= 1
    assert "nan" not in text.lower()


def test_poses_and_second_looks_stand_in_tables_of_their_own(rows, capsys):
    judged(row(rows, "zero_shot_ways", 60.0, None, ("plain", "aligned", "twice")), 0.95)
    for seed, right in ((1, 0.98), (2, 0.99)):
        judged(row(rows, "refined_ways", 40.0, seed, ("plain", "aligned", "twice")), right)
    judged(row(rows, "leave_sheep", 40.0, 1, ("plain", "aligned"), fingerprint="other"), 0.91)
    assert main([str(rows)]) == 0
    sections = {part.splitlines()[0]: part for part in capsys.readouterr().out.split("## ")[1:]}
    poses = sections["With the source also mirrored, and the pose chosen"]
    assert "95.0" in poses
    assert "98.5 ± 0.7" in poses
    away = sections["In places and animals it has not seen, the source also mirrored"].splitlines()
    assert "91.0" in next(line for line in away if line.startswith("| trained without sheep"))
    looks = sections["A second look"].splitlines()
    refined = next(line for line in looks if line.startswith("| refined"))
    assert refined.rstrip(" |").endswith("2")
    assert "+" in refined
    assert MAIN["refined"] in sections["Trained and tested in the same places"]


def test_photographs_that_many_pairs_share_widen_the_interval(rows):
    one = read(rows, MAIN)[0].evaluated[0]
    images, pairs = image_interval(one, SCORES[0]), one.interval(SCORES[0])
    assert images.high - images.low > pairs.high - pairs.low


def test_nothing_there_is_told_with_the_remedy(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "make table-livestock" in capsys.readouterr().err
