"""What each technique adds: means over seeds, paired differences, verdicts, missing rows, mixed protocols."""

import pytest
from report_runs import make_rows, write_run

from geoalign.report.ablation import STEPS, differences, judge, main, read_steps, spread

NAMES = list(STEPS)


@pytest.fixture
def rows(tmp_path):
    """Zero-shot worst, each of two trained rows better, three seeds; the other rows missing."""
    for place, noise in ((NAMES[0], 90.0), (NAMES[1], 60.0), (NAMES[2], 25.0)):
        for seed in [None] if place == NAMES[0] else [1, 2, 3]:
            folder = tmp_path / place / ("" if seed is None else f"seed-{seed}") / "results" / "refined"
            table = make_rows(noise, seed=7 if seed is None else seed)
            write_run(folder, place, {"plain": table, "aligned": table}, dataset="synthetic")
    return tmp_path


def test_rows_are_read_by_seed_and_missing_ones_stay(rows):
    steps = read_steps(rows)
    assert [step.label for step in steps] == list(STEPS.values())
    assert set(steps[0].methods["plain"]) == {""}
    assert set(steps[2].methods["aligned"]) == {"seed-1", "seed-2", "seed-3"}
    assert steps[3].methods == {"plain": {}, "aligned": {}}


def test_the_page_says_what_helps_and_what_is_missing(rows, capsys):
    out = rows / "page.md"
    assert main([str(rows), "--out", str(out)]) == 0
    text = out.read_text()
    lines = [line for line in text.splitlines() if line.startswith("| + dense loss")]
    assert " ± " in lines[0]
    assert lines[0].rstrip(" |").endswith("3")
    assert "+" in lines[2]
    assert "helps" in lines[2]
    missing = next(line for line in text.splitlines() if line.startswith("| + label noise"))
    assert set(missing.replace("+ label noise", "").replace("|", "").split()) == {"—"}
    assert "nan" not in text.lower()
    assert "30 pairs, 180 keypoints, 90 of them geometry-aware" in text


def test_differences_are_paired_by_seed():
    assert differences({"a": 3.0, "b": 5.0}, {"a": 1.0, "b": 4.0}) == [2.0, 1.0]
    assert differences({"a": 3.0, "b": 5.0}, {"": 1.0}) == [2.0, 4.0]
    assert differences({"a": 3.0, "b": 5.0}, {"b": 4.0}) == [1.0]
    assert differences({}, {"": 1.0}) == []
    assert spread({"a": 1.0, "b": 3.0, "c": 5.0}) == "3.0 ± 2.0"


@pytest.mark.parametrize(
    ("change", "said"),
    [([1.0, 1.1, 0.9], "helps"), ([-1.0, -1.1, -0.9], "hurts"), ([1.0, 3.0, -1.0], "unclear"), ([0.0] * 3, "unclear")],
)
def test_verdicts(change, said):
    assert judge(change).endswith(said)


def test_nothing_there_and_other_protocols_are_one_line(rows, tmp_path, capsys):
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "make table-synthetic" in capsys.readouterr().err
    write_run(rows / NAMES[3] / "seed-1", "other", dataset="synthetic", threshold="image")
    assert main([str(rows)]) == 2
    assert "threshold is 'box' and 'image'" in capsys.readouterr().err
