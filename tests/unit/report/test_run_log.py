"""Jobs of sweeps are named by what sets them apart."""

import pytest
from report_runs import write_run

from geoalign.report.runs import collect


@pytest.fixture
def multirun(tmp_path):
    """Two sweeps side by side: of eleven jobs, the sixth failed; and of one job."""

    def job(folder, overrides, results=True, mode="MULTIRUN"):
        (folder / "config").mkdir(parents=True)
        (folder / "config" / "overrides.yaml").write_text("".join(f"- {o}\n" for o in overrides))
        (folder / "config" / "hydra.yaml").write_text(f"hydra:\n  mode: {mode}\n")
        if results:
            write_run(folder / "results" / "refined", "train")
        else:
            (folder / "FAILED").write_text("why")

    for n in range(11):
        job(tmp_path / "train" / "monday" / str(n), ["data.test={a: 1}", f"matcher.radius={n}", "seed=1"], n != 5)
    job(tmp_path / "train" / "tuesday" / "0", ["seed=7"])
    job(tmp_path / "single", ["seed=3"], mode="RUN")
    return tmp_path


def test_jobs_are_named_by_their_own_overrides_in_order(multirun):
    runs = collect([multirun / "train"])
    expected = [f"train: matcher.radius={n}" if n != 5 else "failed: matcher.radius=5" for n in range(11)]
    assert [run.label for run in runs] == [*expected, "train"]
    assert [run.summary is None for run in runs].index(True) == 5


def test_a_single_run_keeps_its_name(multirun):
    assert [run.label for run in collect([multirun / "single"])] == ["train"]
