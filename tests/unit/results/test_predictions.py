import pandas as pd
import pytest
import torch
from helpers.prediction_rows import CATEGORIES, make_batch

from geoalign.metrics import PCK
from geoalign.metrics.functional import point_error_px, subset_masks
from geoalign.results.predictions import (
    COLUMNS,
    ResultsError,
    batch_columns,
    make_table,
    merge_rank_files,
    predictions_path,
    read_predictions,
    scores_from_predictions,
    write_predictions,
)

ALPHAS = (0.1, 0.05)


def make_predictions(*seeds: int) -> tuple[pd.DataFrame, list[str]]:
    batches = [make_batch(seed=seed) for seed in seeds]
    table = make_table(batch_columns(batch, matches, CATEGORIES) for batch, matches in batches)
    return table, [pair for batch, _ in batches for pair in batch["pair_id"]]


@pytest.mark.parametrize("strict", [True, False])
def test_scores_from_a_file_are_those_of_the_metric(tmp_path, strict):
    metric = PCK(ALPHAS, CATEGORIES, strict)
    for seed in (0, 1, 2):
        batch, matches = make_batch(seed=seed)
        names = ("visible", "geometry_aware", "azimuth_difference", "partner")
        masks = subset_masks(*(batch[name] for name in names))
        error = point_error_px(matches.xy_px, batch["trg_xy_px"])
        metric.update(error, batch["size_px"], batch["visible"], masks, batch["category"])
    table, pairs = make_predictions(0, 1, 2)
    write_predictions(tmp_path / "p.parquet", table.sample(frac=1, random_state=0), pairs)
    found = scores_from_predictions(read_predictions(tmp_path / "p.parquet").table, ALPHAS, strict)
    want = metric.compute()
    assert found.scores == want.scores
    assert found.counts == want.counts


def test_a_file_comes_back_as_written(tmp_path):
    table, pairs = make_predictions(0)
    write_predictions(tmp_path / "deep/p.parquet", table, pairs)
    found = read_predictions(tmp_path / "deep/p.parquet")
    pd.testing.assert_frame_equal(found.table, table)
    assert found.pairs == tuple(pairs)
    assert len(set(pairs) - set(table["pair_id"])) >= 1  # a pair without rows is still covered


def test_poses_are_named_per_row():
    batch, matches = make_batch()
    poses = ["flip" if row % 2 else "upright" for row in range(12)]
    table = make_table([batch_columns(batch, matches, CATEGORIES, poses)])
    chosen = dict(zip(batch["pair_id"], poses, strict=True))
    assert (table["pose"] == table["pair_id"].map(chosen)).all()


def test_rank_files_become_one_in_the_order_of_the_dataset(tmp_path):
    table, pairs = make_predictions(0, 1)
    shares = [pairs[0::3], [], pairs[1::3] + pairs[2::3]]
    paths = [predictions_path(tmp_path, "toy", "plain", rank) for rank in range(3)]
    for path, share in zip(paths, shares, strict=True):
        write_predictions(path, table[table["pair_id"].isin(share)], share)
    out = predictions_path(tmp_path, "toy", "plain")
    order = pairs[::-1]
    merge_rank_files(paths, out, order)
    found = read_predictions(out)
    assert found.pairs == tuple(order)
    assert list(dict.fromkeys(found.table["pair_id"])) == [pair for pair in order if pair in set(table["pair_id"])]
    assert scores_from_predictions(found.table, ALPHAS) == scores_from_predictions(table, ALPHAS)


@pytest.mark.parametrize(
    ("shares", "order", "problem"),
    [
        ([slice(0, 8), slice(6, 12)], slice(0, 12), "2 pairs evaluated twice"),
        ([slice(0, 5), slice(6, 12)], slice(0, 12), "1 pairs missing"),
        ([slice(0, 6), slice(6, 12)], slice(0, 11), "not in the dataset"),
    ],
)
def test_rank_files_that_do_not_add_up_are_refused(tmp_path, shares, order, problem):
    table, pairs = make_predictions(0)
    paths = [tmp_path / f"{rank}.parquet" for rank in range(2)]
    for path, share in zip(paths, shares, strict=True):
        write_predictions(path, table[table["pair_id"].isin(pairs[share])], pairs[share])
    with pytest.raises(ResultsError, match=problem):
        merge_rank_files(paths, tmp_path / "out.parquet", pairs[order])
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop(columns="slot"), "slot"),
        (lambda t: t.assign(x_px=float("nan")), "x_px holds NaN"),
        (lambda t: t.assign(size_px=0.0), "size_px must be positive"),
        (lambda t: t.assign(slot=t["slot"].astype(float)), "slot holds float64"),
        (lambda t: pd.concat([t, t[:1]]), "twice"),
        (lambda t: t.assign(pair_id="elsewhere" + t["pair_id"]), "lacks one that has rows"),
    ],
)
def test_bad_rows_are_refused_and_nothing_is_written(tmp_path, spoil, message):
    table, pairs = make_predictions(0)
    with pytest.raises(ResultsError, match=message):
        write_predictions(tmp_path / "p.parquet", spoil(table), pairs)
    assert not list(tmp_path.iterdir())


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ResultsError, match="no predictions at"):
        read_predictions(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(ResultsError, match="not a readable parquet"):
        read_predictions(tmp_path / "text.parquet")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ResultsError, match="expected predictions of format 1"):
        read_predictions(tmp_path / "other.parquet")


def test_no_rows_are_no_scores():
    table = make_table([])
    assert list(table.columns) == list(COLUMNS)
    assert scores_from_predictions(table, ALPHAS) == ({}, {})


def test_invisible_predictions_may_be_anything():
    batch, matches = make_batch()
    matches.xy_px[~batch["visible"]] = torch.nan
    write = make_table([batch_columns(batch, matches, CATEGORIES)])
    assert write["x_px"].notna().all()
