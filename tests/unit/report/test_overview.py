"""What `geoalign report` prints unless told otherwise: a screen, of what differs."""

import pytest
from report_runs import make_rows, write_run

from geoalign.report.__main__ import main
from geoalign.report.overview import View, named_scores, overview
from geoalign.report.runs import collect
from geoalign.report.table import Span
from geoalign.results.predictions import ResultsError


def sweep(root, noises):
    """Jobs whose frozen features score the same and whose refiners differ."""
    for number, noise in enumerate(noises):
        frozen = {"plain": make_rows(80), "aligned": make_rows(70)}
        refined = {"plain": make_rows(noise), "aligned": make_rows(noise - 5)}
        write_run(root / f"{number}/zero-shot", f"sweep, before training: lr={number}", frozen)
        write_run(root / f"{number}/refined", f"sweep: lr={number}", refined)
    return root


def test_two_jobs_are_a_table_of_a_screen(tmp_path, capsys):
    assert main([str(sweep(tmp_path, (40, 30)))]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 120
    assert rows[0].split("|")[2:-1] == [" img@0.10 ", " img@0.05 ", " kp@0.10 ", " kp@0.05 ", " geo@0.10 "]
    assert sum("alike" in row for row in rows) == 2, "frozen features score the same in every job"
    assert [row.split("|")[1].strip() for row in rows[2:]][:3] == [
        "sweep: lr=0", "sweep: lr=0 + pose alignment", "sweep, before training (2 alike)",
    ]  # fmt: skip
    assert len(rows) == 2 + 2 + 4


def test_rows_are_sorted_and_cut(tmp_path):
    runs = collect([sweep(tmp_path, (40, 20, 60))])
    (table,) = overview(runs, View(columns=["kp@0.05"], sort="kp@0.05"))
    scores = [row[1] for row in table.rows]
    assert scores == sorted(scores, reverse=True)
    assert len(table.header) == 2
    (best,) = overview(runs, View(best=1))
    assert [row[0] for row in best.rows] == ["sweep: lr=1 + pose alignment"]


def test_missing_runs_come_last_and_stay_apart(tmp_path):
    for name in ("dead", "gone"):
        (tmp_path / name).mkdir()
    write_run(tmp_path / "a", "a")
    runs = collect([tmp_path / "dead", tmp_path / "gone", tmp_path / "a"])
    (table,) = overview(runs, View(sort="img@0.10"))
    assert [row[0] for row in table.rows] == ["a", "dead", "gone"]


def test_intervals_and_published_numbers_on_request_and_only_where_there_are_any(tmp_path):
    write_run(tmp_path / "a", "a", published="TLR")
    write_run(tmp_path / "b", "b", {"plain": make_rows(30)})
    (table,) = overview(collect([tmp_path]), View(columns=["img@0.10", "interval", "published"]))
    assert table.header == ["run", "img@0.10", "img@0.10 95 %", "img@0.10 published", "img@0.10 Δ"]
    assert isinstance(table.rows[0][2], Span)
    (alone,) = overview(collect([tmp_path / "b"]), View(columns=["img@0.10", "published"]))
    assert alone.header == ["run", "img@0.10"]


def test_an_empty_subset_has_no_column(tmp_path):
    write_run(tmp_path, "run", {"plain": make_rows().assign(geometry_aware=False)})
    (table,) = overview(collect([tmp_path]), View())
    assert not any("geo" in name for name in table.header)
    assert not any("geo:" in note for note in table.notes)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--columns", "pck"], "no score is called 'pck'; expected img, kp, geo"),
        (["--sort", "sideways/image"], "no score is called 'sideways/image'"),
        (["--sort", "kp@0.01"], "they have 0.1, 0.05"),
    ],
)
def test_a_score_that_is_none_is_one_line(tmp_path, capsys, words, said):
    write_run(tmp_path, "run")
    assert main([str(tmp_path), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_no_row_at_all_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--best", "0"])
    assert "--best counts rows and is at least 1, got 0" in capsys.readouterr().err


def test_every_subset_can_be_named():
    (score,) = named_scores("mirror/image@0.10", [0.1, 0.05])
    assert (score.subset, score.average, score.alpha) == ("mirror", "image", 0.1)
    with pytest.raises(ResultsError, match="threshold"):
        named_scores("kp@0.2", [0.1])
