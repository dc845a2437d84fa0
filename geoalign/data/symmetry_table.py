"""Reading mirror tables: yaml files of names, mirror pairs, groups and sides per category, validated when read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from geoalign.data.records import DataError, as_data_errors
from geoalign.data.validation import Fields
from geoalign.files import read_yaml
from geoalign.symmetry import Symmetry

TABLES = Path(__file__).parent / "tables"

ANY = "*"
"""A table under this name serves every category."""


def read_symmetries(source: str | Path, slots: int, categories: Iterable[str]) -> dict[str, Symmetry]:
    """Tables of the ``categories`` that have one, from a built-in name (``spair71k``, ``ap10k``) or a yaml file."""
    path = find_table(source)
    with as_data_errors():
        tables = Fields(path, read_yaml(path, remedy="correct the table"), remedy="correct the table")
    chosen = {c: tables.data[c if c in tables.data else ANY] for c in categories if {c, ANY} & set(tables.data)}
    parsed: dict[str, Symmetry] = {}
    for category, entry in chosen.items():
        parsed[category] = _parse(Fields(path, entry, f"{category}.", "correct the table"), slots)
    return parsed


def find_table(source: str | Path) -> Path:
    """The yaml file a name or path stands for."""
    built_in = TABLES / f"{source}.yaml"
    path = built_in if isinstance(source, str) and built_in.is_file() else Path(source)
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in TABLES.glob("*.yaml")))
        raise DataError.at(path, "symmetry", f"a yaml file or one of {known}", "no such file", "correct the setting")
    return path


def _parse(fields: Fields, slots: int) -> Symmetry:
    names = [str(n) for n in fields.items("names")] if "names" in fields else []
    side = _integers(fields, "side", fields.items("side")) if "side" in fields else ()
    pairs = [_integers(fields, "mirror_pairs", p) for p in fields.items("mirror_pairs")]
    groups = tuple(_integers(fields, "groups", g) for g in fields.items("groups"))
    wrong = [p for p in pairs if len(p) != 2]
    if wrong:
        raise fields.fail("mirror_pairs", "pairs of slots", wrong[0])
    symmetry = Symmetry(tuple(names), tuple((a, b) for a, b in pairs), groups, side)
    problems = symmetry.problems(slots)
    if problems:
        raise fields.fail(problems[0].split(":")[0], "a consistent table", "; ".join(problems))
    return symmetry


def _integers(fields: Fields, key: str, values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
        raise fields.fail(key, "lists of slot numbers", values)
    return tuple(values)
