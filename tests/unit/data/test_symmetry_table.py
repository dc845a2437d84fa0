"""Mirror tables: the shipped ones state the benchmark's facts, wrong ones are refused with file and field."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from geoalign.data.records import DataError
from geoalign.data.symmetry_table import TABLES, find_table, read_symmetries
from geoalign.symmetry import Symmetry

CATEGORIES = tuple(yaml.safe_load((TABLES / "spair71k.yaml").read_text()))
GOOD = {"names": ["a", "b", "c"], "mirror_pairs": [[0, 1]], "groups": [[0, 1]], "side": [1, 2, 0]}


def table(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "table.yaml"
    path.write_text(yaml.safe_dump({"cat": GOOD | changes}))
    return path


def test_all_benchmark_categories_are_there() -> None:
    assert len(CATEGORIES) == 18
    tables = read_symmetries("spair71k", 30, CATEGORIES)
    assert set(tables) == set(CATEGORIES)
    for symmetry in tables.values():
        partner = symmetry.permutation(30)
        assert (partner[partner] == np.arange(30)).all()
        assert len(set(symmetry.names)) == len(symmetry.names) >= 1 + max(max(p) for p in symmetry.mirror_pairs)


def mirrored(name: str) -> str:
    """The partner's name: left and right swapped, slot numbers dropped."""
    swapped = re.sub("left|right", lambda m: "right" if m[0] == "left" else "left", name)
    return re.sub(r"_\d+$", "", swapped)


@pytest.mark.parametrize("category", CATEGORIES)
def test_names_agree_with_sides_and_pairs(category: str) -> None:
    symmetry = read_symmetries("spair71k", 30, [category])[category]
    for name, side in zip(symmetry.names, symmetry.side, strict=True):
        assert not side or ("left", "right")[side - 1] in name or category == "tvmonitor"  # named as seen
    for a, b in symmetry.mirror_pairs:
        assert mirrored(symmetry.names[a]) == re.sub(r"_\d+$", "", symmetry.names[b])


def test_tables_equal_the_benchmarks_facts(shared: Path) -> None:
    facts = json.loads((shared / "data/symmetry.json").read_text())
    for category, symmetry in read_symmetries("spair71k", 30, CATEGORIES).items():
        want = facts["spair71k"][category]
        assert [list(p) for p in symmetry.mirror_pairs] == want["mirror_pairs"]
        assert [list(g) for g in symmetry.groups] == want["geo_groups"]
        assert list(symmetry.side) == want["side"]
    (ap10k,) = read_symmetries("ap10k", 17, ["any species"]).values()
    assert list(ap10k.names) == facts["ap10k"]["keypoints"]
    assert [list(p) for p in ap10k.mirror_pairs] == facts["ap10k"]["mirror_pairs"]
    assert [list(g) for g in ap10k.groups] == facts["ap10k"]["geo_groups"]


def test_one_table_can_serve_every_category() -> None:
    tables = read_symmetries("ap10k", 17, ["cat", "zebra"])
    assert tables["cat"] == tables["zebra"]
    assert read_symmetries("spair71k", 30, ["zebra"]) == {}


def test_a_good_table_reads_without_optional_fields(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("cat: {mirror_pairs: [], groups: []}")
    assert read_symmetries(path, 3, ["cat"])["cat"] == Symmetry((), (), (), ())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"mirror_pairs": [[0, 1], [1, 2]]}, "slot 1 appears more than once"),
        ({"mirror_pairs": [[0, 0]]}, "not a pair"),
        ({"mirror_pairs": [[0, 1, 2]]}, "pairs of slots"),
        ({"mirror_pairs": [[0, 9]]}, r"slot 9 is not in 0\.\.4"),
        ({"mirror_pairs": [[0, -1]]}, "slot -1 is not in"),
        ({"mirror_pairs": [[0, "x"]]}, "slot numbers"),
        ({"mirror_pairs": [[0, True]]}, "slot numbers"),
        ({"mirror_pairs": 3}, "a list"),
        ({"mirror_pairs": []}, "slot 0 is on side 1 but its mirror partner 0"),
        ({"groups": [[0]]}, "two different slots"),
        ({"groups": [[0, 2]]}, r"has slot 0 but not its mirror partner 1"),
        ({"groups": [[0, 1], [1, 2]]}, "slot 1 appears more than once"),
        ({"groups": None}, "a list"),
        ({"side": [1, 1, 0]}, "not on the other"),
        ({"side": [1, 2, 5]}, "5 of slot 2 is not 0, 1 or 2"),
        ({"side": [0] * 6}, "6 entries for 5 slots"),
        ({"names": list("abcdef")}, "6 entries for 5 slots"),
        ({"names": ["a", "a", "c"]}, "share a name"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    path = table(tmp_path, **changes)
    with pytest.raises(DataError, match=told) as caught:
        read_symmetries(path, 5, ["cat"])
    assert caught.value.file == str(path)
    assert caught.value.field.startswith("cat.")


@pytest.mark.parametrize("text", ["", "[1, 2]", "cat: 3", "cat: {", "cat: &a [*a", "\x00", "cat: {names: [a]}"])
def test_broken_files_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=r"table\.yaml"):
        read_symmetries(path, 5, ["cat"])


def test_unknown_tables_list_the_known() -> None:
    with pytest.raises(DataError, match="ap10k, spair71k"):
        find_table("spair72k")


@given(st.permutations(range(12)), st.integers(0, 6))
def test_disjoint_pairs_are_always_an_involution(order: list[int], count: int) -> None:
    pairs = tuple((order[2 * i], order[2 * i + 1]) for i in range(count))
    side = np.zeros(12, int)
    for a, b in pairs:
        side[a], side[b] = 1, 2
    symmetry = Symmetry((), pairs, pairs, tuple(side.tolist()))
    assert symmetry.problems(12) == []
    partner = symmetry.permutation(12)
    assert (partner[partner] == np.arange(12)).all()


def test_geometry_aware_needs_two_of_the_group_in_the_target() -> None:
    symmetry = Symmetry(("l", "r", "nose"), ((0, 1),), ((0, 1),))
    both, one = np.array([True, True, True]), np.array([True, False, True])
    assert symmetry.geometry_aware(both, both).tolist() == [True, True, False]
    assert symmetry.geometry_aware(one, one).tolist() == [False, False, False]
    assert symmetry.geometry_aware(one, both).tolist() == [True, False, False]
