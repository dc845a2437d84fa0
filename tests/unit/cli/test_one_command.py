"""One command for everything: its help, its version, what it says of names that do not exist, what shells complete."""

import os
import subprocess
import sys
import time

import pytest

from geoalign import __version__
from geoalign.cli import completion
from geoalign.cli.__main__ import COMMANDS, main
from geoalign.options.yamls import choices


def run(*words, **environment):
    """The command in a process of its own; what it said."""
    return subprocess.run(
        [sys.executable, "-m", "geoalign.cli", *words], capture_output=True, text=True, env=os.environ | environment
    )


def completed(line):
    """What a shell would offer after a line, as argcomplete tells bash: over file descriptor 8."""
    script = f"{sys.executable} -m geoalign.cli 8>&1 9>/dev/null 1>/dev/null 2>/dev/null"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_SUPPRESS_SPACE": "1"}
    asked |= {"_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_COMP_WORDBREAKS": " \t\n\"'><=;|&(:", "COMP_TYPE": "9"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=os.environ | asked)
    return done.stdout.split("\n")


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit, match="0"):
        main([])
    said = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"  {name:<12}{command.about}\n" in said


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"geoalign {__version__}\n"


@pytest.mark.parametrize(("word", "said"), [("trian", "did you mean train?"), ("x", "commands are train, evaluate")])
def test_an_unknown_command_is_one_line_with_the_nearest(word, said, capsys):
    assert main([word]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {word}: no such command; ")
    assert said in line


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_of_one_style(name, capsys):
    try:
        assert main([name, "--help"]) == 0
    except SystemExit as stop:
        assert stop.code == 0  # noqa: PT017
    said = capsys.readouterr().out
    assert said.startswith(f"usage: geoalign {name} [-h]")
    about = said.split("\n\n")[1]
    assert about[0].isupper() or about.startswith("``geoalign")
    assert "ptions" in said or "settings:" in said


def test_a_wrong_value_ends_with_the_commands_exit_code(tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        main(["train", f"paths.root={tmp_path}", "optimizer.lr=fast"])
    assert "expected a number" in capsys.readouterr().err
    assert main(["prepare", "dataset=nothing"]) == 2


def test_what_python_was_started_with_is_left_as_it_was(monkeypatch, capsys):
    typed = ["geoalign", "train", "--help"]
    monkeypatch.setattr(sys, "argv", typed)
    assert main() == 0
    assert sys.argv is typed


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_the_line_for_a_shell(shell, capsys):
    assert main(["completion", shell]) == 0
    assert "geoalign" in capsys.readouterr().out


def test_groups_choices_and_options_complete():
    assert completion.overrides("train", "back", []) == ["backbone=", "backbone."]
    assert completion.overrides("train", "refiner=", []) == [f"refiner={name}" for name in choices("refiner")]
    assert completion.overrides("train", "matcher.rad", []) == ["matcher.radius="]
    assert completion.overrides("train", "loss.dense.targ", ["loss=released"]) == ["loss.dense.target="]
    assert completion.overrides("train", "baseline=t", []) == ["baseline=true"]
    assert completion.overrides("train", "+launcher=sl", []) == ["+launcher=slurm"]
    assert "loss=" not in completion.overrides("evaluate", "", [])


@pytest.mark.slow
def test_a_shell_completes_commands_groups_and_flags():
    assert {"train", "match", "demo"} <= {word.strip() for word in completed("geoalign ")}
    assert "backbone=" in completed("geoalign evaluate back")
    assert "lite" in completed("geoalign train backbone=li")
    assert any("--symmetry" in word for word in completed("geoalign match --sym"))
    assert any("livestock" in word for word in completed("geoalign prepare dataset=li"))


@pytest.mark.long
@pytest.mark.parametrize(("words", "most_s"), [(["--help"], 0.5), (["train", "--help"], 2.0)])
def test_help_is_there_at_once(words, most_s):
    times = []
    for _ in range(5):
        start = time.perf_counter()
        assert run(*words).returncode == 0
        times.append(time.perf_counter() - start)
    assert min(times) <= most_s, times
