import itertools

import numpy as np
import pytest
from report_runs import make_rows, write_run

from geoalign.report.significance import compare, paired_difference, sign_flip_p
from geoalign.results.intervals import pair_counts
from geoalign.results.predictions import ResultsError


def test_a_run_against_itself_differs_by_nothing():
    counts = pair_counts(make_rows(), 0.1)
    found = paired_difference(counts, counts, "image", samples=200)
    assert (found.value, found.interval, found.p) == (0.0, (0.0, 0.0), 1.0)


@pytest.mark.parametrize("average", ["image", "keypoint"])
def test_a_clear_gain_is_significant_and_antisymmetric(average):
    good, bad = (pair_counts(make_rows(noise), 0.1) for noise in (10, 60))
    forth, back = (paired_difference(a, b, average, samples=500) for a, b in ((good, bad), (bad, good)))
    assert forth.value == -back.value == forth.first - forth.second > 0.2
    assert forth.interval[0] > 0 > back.interval[0]
    assert forth.p == back.p == 1 / 501


def test_p_approaches_the_enumeration_of_all_signs():
    per_pair = np.array([0.5, -0.25, 0.3, 0.1, 0.6, -0.05, 0.2, 0.15])
    sums = [abs(np.dot(signs, per_pair)) for signs in itertools.product((-1, 1), repeat=len(per_pair))]
    exact = np.mean(np.array(sums) >= abs(per_pair.sum()) - 1e-9)
    assert sign_flip_p(per_pair, 20_000, seed=0) == pytest.approx(exact, abs=0.01)


def test_p_is_uniform_where_nothing_differs():
    generator = np.random.default_rng(0)
    found = [sign_flip_p(generator.normal(size=20), 200, seed) for seed in range(200)]
    assert 0.4 < np.mean(found) < 0.6
    assert np.mean(np.array(found) < 0.1) < 0.2


def test_tables_of_two_runs(tmp_path):
    first = write_run(tmp_path / "a", "good", {"plain": make_rows(10), "aligned": make_rows(5)})
    second = write_run(tmp_path / "b", "bad", {"plain": make_rows(60)})
    (table,) = compare(str(first), f"{second}:plain", samples=100)
    assert [row[0] for row in table.rows[:2]] == ["@0.10 per image", "@0.10 per keypoint"]
    assert len(table.rows) == 8
    for _, a, b, difference, interval, p in table.rows[:2]:
        assert difference == pytest.approx(a - b)
        assert interval.low <= difference <= interval.high
        assert 0 < float(p) < 0.05
    assert "good (plain)" in table.notes[0]
    (table,) = compare(f"{first}:aligned", str(first), samples=100)
    assert "good (aligned)" in table.notes[0]


def test_row_order_does_not_matter(tmp_path):
    first = write_run(tmp_path / "a", "a")
    second = write_run(tmp_path / "b", "b", {"plain": make_rows().sample(frac=1, random_state=0)})
    (table,) = compare(str(first), str(second), samples=50)
    assert all(row[3] == 0 and float(row[5]) == 1 for row in table.rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"comparison": "<="}, "comparison is '<' and '<='"),
        ({"dataset": "pf_pascal"}, "nothing to compare"),
        ({"methods": {"aligned": make_rows()}}, "holds no plain evaluation"),
        ({"methods": {"plain": make_rows()[6:]}}, "evaluate both on the same pairs"),
        ({"methods": {"plain": make_rows().assign(size_px=400.0)}}, "differ in size_px"),
    ],
)
def test_runs_that_cannot_be_paired_are_refused(tmp_path, change, message):
    first = write_run(tmp_path / "a", "first")
    second = write_run(tmp_path / "b", "second", **change)
    with pytest.raises(ResultsError, match=message):
        compare(str(first), str(second))
