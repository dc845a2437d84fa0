"""The AP-10K benchmark on generated annotations of full size: counts by formula, properties, any input order."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter, defaultdict

import ap10k_tree as tree
import numpy as np
import pytest

from geoalign.data.readers.ap10k import AP10K
from geoalign.data.readers.ap10k_animals import Animal, content_hash, read_annotations
from geoalign.data.readers.ap10k_lists import build, list_path, read_table, write_table
from geoalign.data.readers.ap10k_pairs import CAPS, PairTable, pair_table, partition, read_crowd
from geoalign.data.records import DataError

MASKS: dict[int, int] = {}  # visible slots as bits, by image
CROWD = random.Random(7).sample(range(1, 10_016), 1_847)


@pytest.fixture(scope="module")
def files():
    return tree.documents()


@pytest.fixture(scope="module")
def root(files, tmp_path_factory):
    return tree.write(tmp_path_factory.mktemp("ap10k"), files, CROWD)


@pytest.fixture(scope="module")
def parts(root) -> dict[str, list[Animal]]:
    parts = partition(read_annotations(root), read_crowd(root / "is_crowd.txt", None))
    for a in (a for animals in parts.values() for a in animals):
        MASKS[a.image] = sum(1 << i for i in np.flatnonzero(a.visible).tolist())
    return parts


@pytest.fixture(scope="module")
def tables(parts) -> dict[tuple[str, str], PairTable]:
    return {key: pair_table(parts[key[0]], *key) for key in CAPS}


def by(animals, attribute):
    groups = defaultdict(list)
    for a in animals:
        groups[getattr(a, attribute)].append(a)
    return groups


def matching(first, second=None) -> np.ndarray:
    """Which pairs see at least three points in both, by counting bits: ``(first second)``, once each."""
    a, b = (np.array([MASKS[x.image] for x in side]) for side in (first, second or first))
    seen = np.bitwise_count(a[:, None] & b[None]) >= 3
    return seen if second else np.triu(seen, 1)


def expected(animals, setting: str, cap: int | None, per_image: bool) -> int:
    if setting == "intra_species":
        groups = [(matching(own), len(own)) for own in by(animals, "species").values()]
        return sum(min(int(m.sum()), 10**9 if cap is None else cap * (n if per_image else 1)) for m, n in groups)
    families = by(animals, "family").values()
    if setting == "cross_family":
        return sum(min(int(matching(a, b).sum()), cap) for a, b in itertools.combinations(families, 2))
    kinds = [np.array([a.species for a in own]) for own in families]
    ways = [matching(own) & (k[:, None] != k[None]) for own, k in zip(families, kinds, strict=True)]
    return sum(min(int(way.sum()), cap) for way in ways)


def test_split_is_last_30_test_20_val_rest_train(files, parts):
    first = {a["image_id"]: a for f in files for a in sorted(f["annotations"], key=lambda a: -a["id"])}
    per_species = defaultdict(list)
    for image, a in sorted(first.items()):
        if image not in CROWD and sum(v > 0 for v in a["keypoints"][2::3]) >= 3:
            per_species[a["category_id"]].append(image)
    want = {"train": set(), "val": set(), "test": set()}
    for images in per_species.values():
        n, t = len(images), min(30, len(images))
        v = min(20, max(0, n - t))
        want["train"] |= set(images[: n - t - v])
        want["val"] |= set(images[n - t - v : n - t])
        want["test"] |= set(images[n - t :])
    assert {part: {a.image for a in animals} for part, animals in parts.items()} == want


def test_no_image_in_two_splits_and_small_species_only_evaluate(parts):
    images = [a.image for animals in parts.values() for a in animals]
    assert len(images) == len(set(images))
    species = {part: {a.species for a in animals} for part, animals in parts.items()}
    assert {s for s, _ in tree.SPECIES} - species["train"] == set(tree.FEW)
    assert species["test"] - species["val"] == {"king cheetah"}
    assert len({a.family for a in parts["test"]}) == 23
    assert len(species["test"]) == 54


@pytest.mark.parametrize(("split", "setting"), CAPS)
def test_counts_follow_the_formula(split, setting, parts, tables):
    table = tables[split, setting]
    assert len(table.src) == expected(parts[split], setting, CAPS[split, setting], split == "train")


@pytest.mark.parametrize(("split", "setting"), CAPS)
def test_pairs_are_allowed_distinct_and_within_caps(split, setting, parts, tables):
    table, animals = tables[split, setting], {a.image: a for a in parts[split]}
    ends = [[animals[i] for i in ids.tolist()] for ids in (table.src, table.trg)]
    low, high = np.minimum(table.src, table.trg), np.maximum(table.src, table.trg)
    assert (low < high).all()
    assert len(set(zip(low.tolist(), high.tolist(), strict=True))) == len(low)
    masks = [np.array([MASKS[a.image] for a in side]) for side in ends]
    assert (np.bitwise_count(masks[0] & masks[1]) >= 3).all()
    species, family = ([np.array([getattr(a, key) for a in side]) for side in ends] for key in ("species", "family"))
    assert ((species[0] == species[1]) == (setting == "intra_species")).all()
    assert ((family[0] == family[1]) == (setting != "cross_family")).all()
    per, sizes = species if setting == "intra_species" else family, Counter(a.species for a in parts[split])
    cap = CAPS[split, setting]
    for group, number in Counter(map(frozenset, zip(*(side.tolist() for side in per), strict=True))).items():
        assert cap is None or number <= (cap * sizes[next(iter(group))] if split == "train" else cap)
    want = {"intra_species": species[0], "cross_species": family[0], "cross_family": np.full(len(low), "all")}
    assert (table.category == want[setting]).all()
    assert 0.4 < np.mean(table.src < table.trg) < 0.6  # directions are drawn


def test_order_of_input_changes_nothing(files, tables, tmp_path):
    other = tree.write(tmp_path / "other", tree.shuffled(files), CROWD[::-1])
    parts = partition(read_annotations(other), read_crowd(other / "is_crowd.txt", None))
    for key, table in tables.items():
        assert pair_table(parts[key[0]], *key).content_hash() == table.content_hash()


def test_seed_changes_the_draw_only_where_a_cap_binds(parts, tables):
    for split in ("val", "test"):
        free, capped = (pair_table(parts[split], split, s, seed=1) for s in ("intra_species", "cross_family"))
        assert {frozenset(p) for p in zip(free.src.tolist(), free.trg.tolist(), strict=True)} == {
            frozenset(p) for p in zip(*(c.tolist() for c in tables[split, "intra_species"][:2]), strict=True)
        }
        assert capped.content_hash() != tables[split, "cross_family"].content_hash()


def test_pairs_do_not_depend_on_other_species(parts, tables):
    only = [a for a in parts["train"] if a.species == "dog"]
    table, everything = pair_table(only, "train", "intra_species"), tables["train", "intra_species"]
    assert (everything.src[everything.category == "dog"] == table.src).all()


def test_full_build_takes_less_than_a_minute(root, tables):
    start = time.process_time()
    built = build(root, root / "is_crowd.txt", crowd_sha256=None)
    assert time.process_time() - start < 60
    assert {name: table.content_hash() for name, table in built.items()} == {
        "_".join(key): table.content_hash() for key, table in tables.items()
    }
    assert all(list_path(root, *key).is_file() for key in tables)


def test_written_lists_read_back_as_what_is_built(tmp_path):
    small = tree.write(tmp_path / "ap10k", tree.documents(1_500, extra=20), [1])
    keys = [("test", "cross_family"), ("val", "intra_species")]
    built = [AP10K(small, *key, crowd_sha256=None, require_images=False) for key in keys]
    build(small, small / "is_crowd.txt", crowd_sha256=None)
    read = [AP10K(small, *key, crowd_sha256=None, require_images=False) for key in keys]
    assert [source.fingerprint() for source in read] == [source.fingerprint() for source in built]
    assert read[0].fingerprint() != read[1].fingerprint()
    assert [p.pair_id for p in read[1][:200]] == [p.pair_id for p in built[1][:200]]


def test_stale_or_edited_lists_are_refused(parts, tables, tmp_path):
    path, table = tmp_path / "test_cross_family.parquet", tables["test", "cross_family"]
    facts = {"rules": 1, "split": "test", "setting": "cross_family", "seed": 42}
    facts["annotations"] = content_hash(sorted(parts["test"], key=lambda a: a.image))
    write_table(path, table, facts)
    assert read_table(path, parts["test"], "test", "cross_family", 42).content_hash() == table.content_hash()
    with pytest.raises(DataError, match="annotations: expected"):
        read_table(path, parts["test"][1:], "test", "cross_family", 42)
    with pytest.raises(DataError, match="seed: expected"):
        read_table(path, parts["test"], "test", "cross_family", 43)
    for damage in (b"", path.read_bytes()[:2000], b"PAR1 nothing PAR1"):
        path.write_bytes(damage)
        with pytest.raises(DataError, match="prepare dataset=ap10k"):
            read_table(path, parts["test"], "test", "cross_family", 42)


def test_edited_pairs_fail_their_hash(parts, tables, tmp_path, monkeypatch):
    table = tables["test", "cross_family"]
    edited = PairTable(table.trg, table.src, table.category)
    path = tmp_path / "list.parquet"
    facts = {"rules": 1, "split": "test", "setting": "cross_family", "seed": 42}
    facts["annotations"] = content_hash(sorted(parts["test"], key=lambda a: a.image))
    monkeypatch.setattr(PairTable, "content_hash", lambda self: "as published")
    write_table(path, edited, facts)
    monkeypatch.undo()
    with pytest.raises(DataError, match="pairs: expected"):
        read_table(path, parts["test"], "test", "cross_family", 42)


def test_building_names_what_is_missing(root, tmp_path):
    crowd = tmp_path / "is_crowd.txt"
    with pytest.raises(DataError, match=r"is_crowd\.txt"):
        build(tmp_path, crowd)
    crowd.write_text("")
    with pytest.raises(DataError, match=r"ap10k-train-split1\.json"):
        build(tmp_path, crowd, crowd_sha256=None)
    with pytest.raises(DataError, match="SHA-256"):
        build(root, root / "is_crowd.txt")


def test_unknown_settings_are_named(parts):
    with pytest.raises(ValueError, match="no cross_family pairs of split train"):
        pair_table(parts["train"], "train", "cross_family")
