import json

import pytest
from helpers.prediction_rows import CATEGORIES, make_batch

import geoalign
from geoalign.results.predictions import ResultsError, batch_columns, make_table, scores_from_predictions
from geoalign.results.summary import (
    SUMMARY_NAME,
    evaluate_table,
    make_summary,
    read_summary,
    write_summary,
)
from geoalign.results.version import code_version

PROTOCOL = {
    "image_protocol": "letterbox",
    "frame_px": 840,
    "threshold": "box",
    "comparison": "<",
    "matcher": {"readout": "window", "size": 15},
    "pose": {},
}


def make_evaluation(table=None, **change):
    if table is None:
        table = make_table(batch_columns(*make_batch(seed=seed), CATEGORIES) for seed in range(3))
    settings = {
        "stage": "test",
        "dataset": "toy",
        "split": "test",
        "dataset_fingerprint": "f00d",
        "method": "plain",
        "protocol": PROTOCOL,
        "alphas": (0.1, 0.05),
        "samples": 50,
    }
    return evaluate_table(table, **{**settings, **change})


def test_an_evaluation_holds_scores_counts_and_intervals():
    table = make_table(batch_columns(*make_batch(seed=seed), CATEGORIES) for seed in range(3))
    found = make_evaluation(table)
    result = scores_from_predictions(table, (0.1, 0.05))
    assert result.named("test", "toy", by_category=True).items() <= found["metrics"].items()
    assert "test/toy/sensitivity@0.10/image" in found["metrics"]
    assert found["counts"]["keypoints"] == len(table)
    assert found["counts"]["geometry_aware"] == table["geometry_aware"].sum()
    low, high = found["intervals"]["test/toy/pck@0.10/image"]
    assert low < found["metrics"]["test/toy/pck@0.10/image"] < high


def test_less_or_equal_reaches_the_scores():
    table = make_evaluation_table_on_the_limit()
    name = "test/toy/pck@0.10/image"
    assert make_evaluation(table)["metrics"][name] == 0
    assert make_evaluation(table, protocol={**PROTOCOL, "comparison": "<="})["metrics"][name] == 1


def make_evaluation_table_on_the_limit():
    table = make_table([batch_columns(*make_batch(), CATEGORIES)])
    return table.assign(x_px=10.0, y_px=0.0, true_x_px=0.0, true_y_px=0.0, size_px=100.0)


def test_a_summary_comes_back_and_nothing_partial_stays(tmp_path):
    evaluations = [make_evaluation(), make_evaluation(method="aligned")]
    summary = make_summary("zero_shot", {"a": [1, 2]}, evaluations, "SD+DINO")
    assert write_summary(tmp_path, summary) == tmp_path / SUMMARY_NAME
    assert read_summary(tmp_path) == summary
    assert [path.name for path in tmp_path.iterdir()] == [SUMMARY_NAME]


def test_a_summary_of_format_1_reads_the_same(tmp_path):
    summary = make_summary("zero_shot", {}, [make_evaluation(), make_evaluation(method="aligned")])
    data = json.loads(json.dumps(summary)) | {"format_version": 1}
    for evaluation in data["evaluations"]:
        evaluation["view"] = evaluation.pop("method")
    (tmp_path / SUMMARY_NAME).write_text(json.dumps(data))
    assert read_summary(tmp_path) == summary


def test_an_empty_set_is_counted_and_has_no_scores(tmp_path):
    evaluation = make_evaluation(make_table([]))
    assert (evaluation["counts"]["pairs"], evaluation["metrics"], evaluation["intervals"]) == (0, {}, {})
    write_summary(tmp_path, make_summary("empty", {}, [evaluation]))


def set_at(data, path, value):
    *parents, last = path
    for part in parents:
        data = data[part]
    data[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format_version",), 99, "format_version 2, got 99"),
        (("surprise",), 1, "surprise: Extra inputs are not permitted, got 1"),
        (("published",), {"plain": 82.9}, "published.*valid string, got"),
        (("evaluations", 0, "protocol", "comparison"), "about", "comparison: Input should be '<' or '<=', got 'about'"),
        (("evaluations", 0, "metrics", "x"), float("nan"), r"finite number"),
        (("evaluations", 0, "intervals", "x"), [0.1, "high"], r"x.1: .* valid number, got 'high'"),
        (("evaluations", 0, "protocol"), "strict", "protocol: Input should be a valid dictionary, got 'strict'"),
    ],
)
def test_bad_fields_are_refused(tmp_path, path, value, message):
    summary = make_summary("run", {}, [make_evaluation()])
    data = json.loads(json.dumps(summary))
    set_at(data, path, value)
    with pytest.raises(ResultsError, match=message):
        write_summary(tmp_path, data)
    (tmp_path / SUMMARY_NAME).write_text(json.dumps(data))
    with pytest.raises(ResultsError, match=message):
        read_summary(tmp_path)


def test_missing_things_are_refused(tmp_path):
    with pytest.raises(ResultsError, match=r"no summary\.json"):
        read_summary(tmp_path)
    (tmp_path / SUMMARY_NAME).write_text("{")
    with pytest.raises(ResultsError, match="valid JSON"):
        read_summary(tmp_path)
    (tmp_path / SUMMARY_NAME).write_text("[" * 100_000)
    with pytest.raises(ResultsError, match="at most 64 levels"):
        read_summary(tmp_path)
    (tmp_path / SUMMARY_NAME).write_text("{}")
    with pytest.raises(ResultsError, match="format_version: Field required"):
        read_summary(tmp_path)


def test_one_dataset_twice_is_refused(tmp_path):
    with pytest.raises(ResultsError, match="evaluated twice"):
        write_summary(tmp_path, make_summary("run", {}, [make_evaluation(), make_evaluation()]))


def test_code_version_names_the_package():
    version = code_version()
    assert version["package"] == geoalign.__version__
    assert (version["commit"] is None) == (version["dirty"] is None)


def test_code_version_without_git_still_names_the_package(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert code_version() == {"package": geoalign.__version__, "commit": None, "dirty": None}
