"""The page on real photographs: rows that are there, intervals over photographs, gains against frozen features."""

import pytest
from report_runs import make_rows, write_run

from geoalign.report.livestock import MAIN, SCORES, image_interval, main, read


def row(folder, name, noise, seed=None, **about):
    table = make_rows(noise, pairs=40, seed=seed or 7)
    index = table["pair_id"].str.removeprefix("pair").astype(int)
    table["pair_id"] = [f"{i:06d}-horse_test_{i % 5}-horse_test_{5 + i % 3}:horse" for i in index]
    place = folder / f"livestock-{name}" / ("" if seed is None else f"seed-{seed}") / "results" / "refined"
    write_run(place, name, {"plain": table}, dataset="livestock", **about)


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


def test_photographs_that_many_pairs_share_widen_the_interval(rows):
    one = read(rows, MAIN)[0].evaluated[0]
    images, pairs = image_interval(one, SCORES[0]), one.interval(SCORES[0])
    assert images.high - images.low > pairs.high - pairs.low


def test_nothing_there_is_told_with_the_remedy(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "make table-livestock" in capsys.readouterr().err
