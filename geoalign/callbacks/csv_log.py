"""The csv log: every row is on disk when it is logged, and a run that goes on continues it."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, cast

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment

from geoalign.files import replacing

LOG = "csv/metrics.csv"
"""Where a run's folder has it."""


class CsvLog(CSVLogger):
    """Lightning's log in ``save_dir/csv``, without its two weak sides.

    Lightning keeps rows in memory for some steps, and deletes the file of an earlier attempt.

    Args:
        save_dir: the run's folder
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir, name="", version="csv", flush_logs_every_n_steps=1)

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        if self._experiment is None:
            self._experiment = _Writer(self.log_dir)
        return cast("ExperimentWriter", self._experiment)


class _Writer(ExperimentWriter):
    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self.metrics_keys = _read(Path(self.metrics_file_path))[0]

    def _check_log_dir_exists(self) -> None:
        """Delete nothing."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        _write(Path(self.metrics_file_path), fieldnames, _read(Path(self.metrics_file_path))[1])


def cut(folder: Path, step: int) -> None:
    """Keep the rows of a run's log that its checkpoint after ``step`` optimiser steps knows; the others come again."""
    if (folder / LOG).is_file():
        header, rows = _read(folder / LOG)
        _write(folder / LOG, header, [row for row in rows if int(row["step"]) < step])


def _read(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    text = path.read_text() if path.is_file() else ""
    reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))  # a kill may have left a row in part
    return list(reader.fieldnames or []), list(reader)


def _write(path: Path, header: list[str], rows: list[dict[str, Any]]) -> None:
    with replacing(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)
