import runpy
import sys

import pytest
from report_runs import make_rows, write_run

from geoalign.report.__main__ import main


def test_prints_markdown(tmp_path, capsys):
    write_run(tmp_path, "run", published="TLR")
    assert main([str(tmp_path), "--published", "all", "--categories", "0.1"]) == 0
    text = capsys.readouterr().out
    assert "| run " in text
    assert "| ImCorr" in text
    assert "## spair71k: PCK@0.10 per keypoint by category, %" in text


def test_writes_every_form(tmp_path, capsys):
    write_run(tmp_path / "run", "run")
    arguments = [str(tmp_path), "--out", str(tmp_path / "docs"), "--format", "markdown", "csv", "latex"]
    assert main([*arguments, "--name", "spair"]) == 0
    assert {path.name for path in (tmp_path / "docs").iterdir()} == {"spair.md", "spair.csv", "spair.tex"}
    assert capsys.readouterr().out.split() == [str(tmp_path / f"docs/spair.{e}") for e in ("md", "csv", "tex")]


def test_reads_summaries_only(tmp_path, capsys):
    run = write_run(tmp_path, "run")
    for path in run.glob("*.parquet"):
        path.unlink()
    assert main([str(tmp_path)]) == 0
    assert main(["--compare", str(run), str(run)]) == 2
    assert "no predictions at" in capsys.readouterr().err


def test_compares(tmp_path, capsys):
    runs = [str(write_run(tmp_path / name, name, {"plain": make_rows(px)})) for name, px in (("a", 10), ("b", 60))]
    assert main(["--compare", *runs, "--samples", "50"]) == 0
    assert "paired difference" in capsys.readouterr().out


def test_nothing_there_is_said_and_not_zero(tmp_path, capsys):
    assert main([str(tmp_path), "--expect", "zero_shot"]) == 0
    text = capsys.readouterr().out
    assert "No results yet" in text
    assert "0.0" not in text


@pytest.mark.parametrize(
    ("spoil", "message"),
    [({"comparison": "<="}, "report them apart"), ({"published": "nobody"}, "no published method is called 'nobody'")],
)
def test_what_cannot_be_shown_is_one_clear_line(tmp_path, capsys, spoil, message):
    write_run(tmp_path / "a", "first")
    write_run(tmp_path / "b", "second", **spoil)
    assert main([str(tmp_path)]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert message in found.err
    assert len(found.err.splitlines()) == 1


def test_nothing_asked_is_an_error():
    with pytest.raises(SystemExit):
        main([])


def test_runs_as_a_module(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["geoalign.report", str(tmp_path)])
    with pytest.raises(SystemExit) as done:
        runpy.run_module("geoalign.report", run_name="__main__")
    assert done.value.code == 0
    assert "No results yet" in capsys.readouterr().out
