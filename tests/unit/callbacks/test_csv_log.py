"""The csv log: rows are durable, columns may come later, and a run that goes on continues it."""

import csv

import pandas as pd

from geoalign.callbacks.csv_log import LOG, CsvLog, cut


def _steps(folder):
    return [int(row["step"]) for row in csv.DictReader((folder / LOG).open())]


def test_every_row_is_on_disk_when_it_is_logged(tmp_path):
    logger = CsvLog(str(tmp_path))
    for step in range(3):
        logger.log_metrics({"a": step / 2}, step)
        assert _steps(tmp_path) == list(range(step + 1))
    logger.log_metrics({"b": 1.0}, 3)
    table = pd.read_csv(tmp_path / LOG)
    assert table["a"].dropna().tolist() == [0, 0.5, 1]
    assert table["b"].dropna().tolist() == [1]


def test_a_run_that_goes_on_keeps_the_rows_its_checkpoint_knows(tmp_path):
    cut(tmp_path, 3)
    assert not (tmp_path / LOG).exists(), "nothing to keep"
    first = CsvLog(str(tmp_path))
    for step in range(5):
        first.log_metrics({"a": step}, step)
    with (tmp_path / LOG).open("a") as file:
        file.write("1")  # a kill in the middle of the row of step 15
    cut(tmp_path, 3)
    again = CsvLog(str(tmp_path))
    assert _steps(tmp_path) == [0, 1, 2]
    again.log_metrics({"a": 3, "c": 1}, 3)
    assert _steps(tmp_path) == [0, 1, 2, 3]
    assert pd.read_csv(tmp_path / LOG)["a"].tolist() == [0, 1, 2, 3]
