"""Rows of a table: what is planned, what is kept, what a failure leaves; and that make names real experiments."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import run_rows
from benchmarks.run_rows import Job, main, plan, script_of

ROOT = Path(run_rows.__file__).parents[1]
SCRIPT = """import os, pathlib, sys
given = dict(a.split("=", 1) for a in sys.argv[1:])
out = pathlib.Path(given["hydra.run.dir"]) / "results" / "refined"
print("threads", os.environ["OMP_NUM_THREADS"])
if given.get("fail") == given["experiment"]:
    sys.exit("error: no data at nowhere")
out.mkdir(parents=True)
(out / "summary.json").write_text(str(given))
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name, script in (("group/trained", "train"), ("group/frozen", "evaluate"), ("group/mute", "")):
        path = tmp_path / "conf" / "experiment" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# @package _global_\n#   geoalign {script} experiment={name}\n")
    for script in ("train.py", "evaluate.py"):
        (tmp_path / script).write_text(SCRIPT)
    monkeypatch.setattr(run_rows, "PROJECT", tmp_path)
    return tmp_path


def test_trained_rows_get_the_seeds_and_frozen_ones_do_not(project):
    jobs = plan(project / "out", ["group/frozen", "group/trained"], [1, 2])
    assert [(j.script, j.seed, j.folder.relative_to(project).as_posix()) for j in jobs] == [
        ("evaluate.py", None, "out/group-frozen"),
        ("train.py", 1, "out/group-trained/seed-1"),
        ("train.py", 2, "out/group-trained/seed-2"),
    ]
    command = jobs[1].command(["a=1"])
    assert command[0] == sys.executable
    assert command[1:] == ["train.py", "experiment=group/trained", "seed=1", f"hydra.run.dir={jobs[1].folder}", "a=1"]
    assert plan(project / "out", ["group/trained"], [])[0].seed is None


def test_finished_rows_are_kept_and_a_failure_stops_nothing(project, capfd):
    arguments = [str(project / "out"), "group/trained", "group/frozen", "--jobs", "2"]
    assert main([*arguments, "--set", "fail=group/trained"]) == 1
    said = capfd.readouterr()
    assert "group/trained: failed, see" in said.out
    assert "no data at nowhere" in said.err
    frozen = project / "out" / "group-frozen" / "results" / "refined" / "summary.json"
    before = frozen.stat().st_mtime_ns
    assert main(arguments) == 0
    assert "2 rows, 1 of them done" in capfd.readouterr().out
    assert frozen.stat().st_mtime_ns == before
    assert main(arguments) == 0
    assert "2 rows, 2 of them done" in capfd.readouterr().out
    assert "threads" in (project / "out" / "group-trained.log").read_text()


def test_a_training_that_was_cut_after_its_zero_shot_test_is_not_done(tmp_path):
    job = Job("a", "train.py", None, tmp_path)
    (tmp_path / "results" / "zero-shot").mkdir(parents=True)
    (tmp_path / "results" / "zero-shot" / "summary.json").write_text("{}")
    assert not job.done
    assert job._replace(script="evaluate.py").done


def test_evaluations_read_a_trained_row_seed_by_seed(project, tmp_path):
    jobs = plan(tmp_path, ["group/frozen"], [1, 2], "group/trained")
    assert [job.folder for job in jobs] == [tmp_path / "group-frozen" / f"seed-{seed}" for seed in (1, 2)]
    commands = [job.command(["a=b"]) for job in jobs]
    assert [f"checkpoint={tmp_path}/group-trained/seed-{seed}" in c for seed, c in zip((1, 2), commands, strict=True)]
    assert not any(word.startswith("seed=") for command in commands for word in command)
    (alone,) = plan(tmp_path, ["group/frozen"], [], "group/trained")
    assert alone.weights == tmp_path / "group-trained"


def test_unknown_experiments_are_named(project, capfd):
    assert main([str(project / "out"), "group/frozen", "group/other"]) == 2
    assert "error: no experiment group/other" in capfd.readouterr().err
    with pytest.raises(ValueError, match="no experiment group/other"):
        script_of("group/other")
    with pytest.raises(ValueError, match="names no script"):
        script_of("group/mute")


TARGETS = [
    f"table-{t}"
    for t in (
        "synthetic",
        "livestock",
        "livestock-deep",
        "strong",
        "livestock-unlabelled",
        "spair",
        "ap10k",
        "pf-pascal",
        "spair-u",
        "ablation",
        "window",
    )
]


@pytest.mark.parametrize("target", TARGETS)
def test_make_runs_experiments_that_exist(target, tmp_path):
    (tmp_path / "Makefile").write_text("VENV = x\nBIN = bin\ninclude tables.mk\n$(VENV)/installed: ;\n")
    make = ["make", "-n", "--no-print-directory", "-f", str(tmp_path / "Makefile"), target, "SET=a.b=c"]
    lines = (
        subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True)
        .stdout.replace("\\\n", " ")
        .splitlines()
    )
    rows = [line for line in lines if "run_rows" in line]
    assert rows
    for line in rows:
        options = run_rows.parser().parse_args(line.split("run_rows ")[1].split())
        assert options.set[-1] == "a.b=c"
        assert [script_of(experiment) for experiment in options.experiments]
    assert re.search(r"geoalign(\.| )report", lines[-1])
    if "geoalign report" in lines[-1]:
        from geoalign.report.__main__ import parser

        assert parser().parse_args(lines[-1].split("geoalign report ")[1].split()).folders
