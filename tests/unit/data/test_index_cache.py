"""Cached indexes are used while nothing changed, and rebuilt when anything did."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers.spair_tree import annotation, put, write_tree

from geoalign.data import SPair71k
from geoalign.data.readers import spair
from geoalign.data.readers.index_cache import cache_folders, cached, signature


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    write_tree(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The annotation folders that were really read."""
    calls: list[Path] = []
    real = spair.build_index

    def counting(annotations: Path, pair_list: Path, slots: int) -> spair.SPairIndex:
        calls.append(annotations)
        return real(annotations, pair_list, slots)

    monkeypatch.setattr(spair, "build_index", counting)
    return calls


def test_second_reading_comes_from_the_cache(root: Path, builds: list[Path]) -> None:
    assert SPair71k(root).fingerprint() == SPair71k(root).fingerprint()
    assert len(builds) == 1
    SPair71k(root, index_cache=False)
    assert len(builds) == 2


@pytest.mark.parametrize("change", ["edit", "touch", "add", "remove line"])
def test_any_change_rebuilds(root: Path, builds: list[Path], change: str) -> None:
    SPair71k(root)
    image, layout = root / "ImageAnnotation/cat/2008_000001.json", root / "Layout/large/test.txt"
    if change == "edit":
        put(image, json.dumps(annotation("cat", "2008_000001", 0) | {"azimuth_id": 7}))
    elif change == "touch":
        os.utime(image, ns=(1, 1))
    elif change == "add":
        put(root / "ImageAnnotation/cat/new.json", json.dumps(annotation("cat", "new")))
    elif change == "remove line":
        layout.write_text("".join(layout.read_text().splitlines(keepends=True)[1:]))
    source = SPair71k(root)
    assert len(builds) == 2
    assert len(source) == (7 if change == "remove line" else 8)
    if change == "edit":
        assert next(i for i in source.images if i.image_id == "cat/2008_000001").azimuth == 7


def test_a_damaged_cache_is_rebuilt(root: Path, builds: list[Path]) -> None:
    want = SPair71k(root).fingerprint()
    (stored,) = (root / ".geoalign").iterdir()
    whole = stored.read_bytes()
    for damaged in (b"", b"PK\x03\x04 nonsense", whole[: len(whole) // 2], b"\x93NUMPY"):
        stored.write_bytes(damaged)
        assert SPair71k(root).fingerprint() == want
    assert len(builds) == 5


def test_a_read_only_root_uses_the_users_folder(root: Path, builds: list[Path]) -> None:
    (root / ".geoalign").write_text("a file where the folder would be")
    SPair71k(root)
    assert SPair71k(root).fingerprint()
    assert len(builds) == 1
    assert len(list(cache_folders(root)[1].iterdir())) == 1


def test_nowhere_to_write_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    arrays = cached(blocked, "index", "key", lambda: {"x": np.arange(3)})
    assert arrays["x"].tolist() == [0, 1, 2]


def test_no_half_written_file_remains(root: Path) -> None:
    SPair71k(root)
    assert [p.suffix for p in (root / ".geoalign").iterdir()] == [".npz"]


def test_signature_depends_on_facts_and_names(tmp_path: Path) -> None:
    put(tmp_path / "a/x.json", "1")
    first = signature([tmp_path / "a"], 30)
    assert signature([tmp_path / "a"], 30) == first
    assert signature([tmp_path / "a"], 17) != first
    (tmp_path / "a/x.json").rename(tmp_path / "a/y.json")
    assert signature([tmp_path / "a"], 30) != first
