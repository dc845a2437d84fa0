import numpy as np
import pytest
from helpers.prediction_rows import CATEGORIES, make_batch

from geoalign.metrics import Score
from geoalign.results.intervals import CHUNK, averages, bootstrap_intervals, interval, pair_counts, resamples
from geoalign.results.predictions import batch_columns, make_table, scores_from_predictions


@pytest.fixture(scope="module")
def table():
    return make_table(batch_columns(*make_batch(seed=seed), CATEGORIES) for seed in range(5))


def test_each_pair_once_is_the_plain_score(table):
    scores = scores_from_predictions(table, (0.1,)).scores
    for subset in ("all", "geometry_aware", "mirror"):
        counts = pair_counts(table, 0.1, subset=subset)
        for average, value in averages(counts, np.ones((1, len(counts.points)))).items():
            assert value[0] == pytest.approx(scores[Score(subset, "all", 0.1, average)], abs=1e-12)


def test_intervals_hold_the_score_repeat_and_depend_on_the_seed(table):
    scores = scores_from_predictions(table, (0.1, 0.05)).scores
    first, again, other = (bootstrap_intervals(table, (0.1, 0.05), samples=200, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == 8
    for score, (low, high) in first.items():
        assert low < scores[score] < high


def test_a_resample_keeps_the_number_of_pairs():
    drawn = np.concatenate(list(resamples(7, CHUNK + 3, seed=0)))
    assert drawn.shape == (CHUNK + 3, 7)
    assert (drawn.sum(1) == 7).all()
    assert drawn.std() > 0


def test_resampled_by_image_a_pair_counts_with_the_product_of_its_images(table):
    score, pairs = Score("all", "all", 0.1, "keypoint"), table["pair_id"].unique()
    ends = np.array([(i % 5, 5 + i % 4) for i in range(len(pairs))])
    images = {pair: (f"image {src}", f"image {trg}") for pair, (src, trg) in zip(pairs, ends, strict=True)}
    weights = (often[:, ends].prod(-1) for often in resamples(9, 50, seed=3))
    expected = [averages(pair_counts(table, 0.1), weight)["keypoint"] for weight in weights]
    found = bootstrap_intervals(table, (0.1,), samples=50, seed=3, images=images)
    assert found[score] == interval(np.concatenate(expected))


def test_an_interval_over_images_is_wider(table):
    score, pairs = Score("all", "all", 0.1, "keypoint"), table["pair_id"].unique()
    images = {pair: (f"source {i % 7}", f"target {i // 7}") for i, pair in enumerate(pairs)}
    by_pair, by_image = (bootstrap_intervals(table, (0.1,), samples=400, images=i)[score] for i in (None, images))
    assert np.diff(by_pair) < np.diff(by_image)


def test_a_single_pair_has_its_score_as_interval(table):
    one = table[table["pair_id"] == table["pair_id"].iloc[0]]
    assert all(low == high for low, high in bootstrap_intervals(one, (0.1,), samples=20).values())


def test_more_pairs_make_it_narrower(table):
    few = table[table["pair_id"].isin(table["pair_id"].unique()[:8])]
    score = Score("all", "all", 0.1, "image")
    wide, narrow = (np.diff(bootstrap_intervals(t, (0.1,), samples=200)[score])[0] for t in (few, table))
    assert narrow < wide


def test_an_empty_subset_has_no_interval(table):
    found = bootstrap_intervals(table.assign(geometry_aware=False), (0.1,), samples=20)
    assert {score.subset for score in found} == {"all"}
    assert bootstrap_intervals(table[:0], (0.1,)) == {}


def test_an_interval_ignores_what_is_not_a_number():
    assert interval(np.array([1.0, 2.0, 3.0, np.nan]), level=1.0) == (1.0, 3.0)


def test_other_subsets_are_refused(table):
    with pytest.raises(ValueError, match="azimuth_0"):
        pair_counts(table, 0.1, subset="azimuth_0")
