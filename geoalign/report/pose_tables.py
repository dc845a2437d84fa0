"""How well poses were chosen: where azimuths tell, and beside what a perfect choice would have scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from geoalign.keys import pck_key, pose_key
from geoalign.report.pck_tables import difference
from geoalign.report.runs import Evaluated, Run
from geoalign.report.table import Cell, Signed, Table, show

RIGHT = ("right_where_azimuth_decides", "right_same_side", "right_opposite_sides")
HEADER = ["right", "same side", "opposite sides", "upright @0.10", "chosen", "gain", "oracle", "oracle's gain"]
NOTES = [
    "right: choices between upright and flip that the azimuths confirm, %, where they tell; in all, of pairs seen from "
    "the same side and from opposite sides",
    "PCK@0.10 per keypoint of the upright source and of the chosen pose; oracle: of the pose with most correct points, "
    "which reads the truth and is no method",
]


class Chosen(NamedTuple):
    """The cells of :data:`HEADER`, in percent; None where it is not known."""

    right: float | None
    same_side: float | None
    opposite_sides: float | None
    upright: float | None
    chosen: float | None
    gain: Signed | None
    oracle: float | None
    oracle_gain: Signed | None


def pose_tables(runs: Sequence[Run]) -> list[Table]:
    """A table for every dataset that some run chose poses on."""
    tables: dict[str, list[list[Cell]]] = {}
    for run in runs:
        for plain, aligned in _pairs(run.evaluated):
            if (cells := chosen_poses(plain, aligned)) is not None:
                tables.setdefault(aligned.dataset, []).append([run.label, *cells])
    return [Table(f"{dataset}: choice of a pose, %", ["run", *HEADER], rows, NOTES) for dataset, rows in tables.items()]


def chosen_poses(plain: Evaluated | None, aligned: Evaluated) -> Chosen | None:
    """How well a run chose; None where it says nothing of its choices."""
    stage, dataset = aligned.evaluation["stage"], aligned.dataset
    right, same, opposite = (_percent(aligned, pose_key(stage, dataset, name)) for name in RIGHT)
    best = _pck(aligned, f"{aligned.method}_oracle")
    if right is None and best is None:
        return None
    before, after = None if plain is None else _pck(plain, plain.method), _pck(aligned, aligned.method)
    gains = difference(after, before), difference(best, before)
    return Chosen(right, same, opposite, before, after, gains[0], best, gains[1])


def pose_lines(evaluated: Sequence[Evaluated]) -> Iterator[str]:
    """What the tables say, a line per result, for the end of a run."""
    for plain, aligned in _pairs(evaluated):
        if (cells := chosen_poses(plain, aligned)) is not None:
            said = [f"{name} {show(cell)}" for name, cell in zip(HEADER, cells, strict=True) if cell is not None]
            yield f"{aligned.name}: {', '.join(said)}"


def _pairs(evaluated: Sequence[Evaluated]) -> Iterator[tuple[Evaluated | None, Evaluated]]:
    """Every evaluation with pose alignment, and the plain one of the same dataset."""
    plain = {(one.folder, one.dataset): one for one in evaluated if one.method == "plain"}
    yield from ((plain.get((one.folder, one.dataset)), one) for one in evaluated if one.method == "aligned")


def _pck(one: Evaluated, method: str) -> float | None:
    return _percent(one, pck_key(one.evaluation["stage"], one.dataset, 0.1, "keypoint", method=method))


def _percent(one: Evaluated, key: str) -> float | None:
    value = one.evaluation["metrics"].get(key)
    return None if value is None else 100 * value
