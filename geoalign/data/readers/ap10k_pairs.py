"""The rules of the AP-10K correspondence benchmark: which images are in a split, which pairs in a setting.

Everything is sorted and drawn by content (image ids and seed), so neither the file system's order, nor the order
inside the annotation files, nor the version of a random generator can change a pair.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from geoalign.data.batch.draws import lowest, mixed
from geoalign.data.readers.ap10k_animals import Animal
from geoalign.data.records import DataError
from geoalign.data.validation import read_text

SEED = 42
MIN_KEYPOINTS = 3  # of an image, and mutually visible in a pair
TEST_IMAGES, VAL_IMAGES = 30, 20  # per species
CROWD_SHA256 = "64444a59008ec9402b9409dce6234af946a2f480a8348d1751d22af10c812ee6"

#: Most pairs of a group: per species (train: times its number of images), per family, per pair of families.
CAPS: dict[tuple[str, str], int | None] = {
    ("train", "intra_species"): 50,
    ("val", "intra_species"): None,
    ("test", "intra_species"): None,
    ("val", "cross_species"): 400,
    ("test", "cross_species"): 900,
    ("val", "cross_family"): 20,
    ("test", "cross_family"): 30,
}


class PairTable(NamedTuple):
    """Pairs as columns: image ids of source and target, and the category the pair is reported under."""

    src: Int64[np.ndarray, "m"]
    trg: Int64[np.ndarray, "m"]
    category: Shaped[np.ndarray, "m"]  # of str

    def content_hash(self) -> str:
        """SHA-256 of the pairs in their order."""
        digest = hashlib.sha256(self.src.astype("<i8").tobytes() + self.trg.astype("<i8").tobytes())
        digest.update("\n".join(self.category.tolist()).encode())
        return digest.hexdigest()


class Group(NamedTuple):
    """Candidate pairs: every allowed ``(first, second)`` of two lists of animals, reported under one category."""

    category: str
    first: list[Animal]
    second: list[Animal]
    allowed: Bool[np.ndarray, "first second"]
    cap: int | None


def read_crowd(path: Path, sha256: str | None = CROWD_SHA256) -> frozenset[int]:
    """Image ids of the benchmark's crowd list, one a line; ``sha256=None`` accepts another list."""
    text = read_text(path, "place the benchmark's crowd list (1,847 image ids, one a line) there")
    digest = hashlib.sha256(text.encode()).hexdigest()
    if sha256 is not None and digest != sha256:
        remedy = "another list makes another benchmark: pass crowd_sha256=None if that is meant"
        raise DataError.at(path, "SHA-256", sha256, digest, remedy)
    lines = [line for line in text.split("\n") if line.strip()]
    for line in lines:
        if not (line.strip().isdecimal() and line.isascii()):
            raise DataError.at(path, "ids", "one image id a line", line, "remove the line")
    return frozenset(map(int, lines))


def partition(animals: Sequence[Animal], crowd: frozenset[int] = frozenset()) -> dict[str, list[Animal]]:
    """Train, val and test images: per species by file name, the last 30 test, the 20 before them val."""
    by_species: dict[str, list[Animal]] = defaultdict(list)
    for animal in sorted(animals, key=lambda a: a.file_name):
        if animal.image not in crowd and animal.visible.sum() >= MIN_KEYPOINTS:
            by_species[animal.species].append(animal)
    parts: dict[str, list[Animal]] = {"train": [], "val": [], "test": []}
    for name in sorted(by_species):
        files = by_species[name]
        test = min(TEST_IMAGES, len(files))
        val = min(VAL_IMAGES, len(files) - test)
        train = len(files) - val - test
        for part, start, stop in (("train", 0, train), ("val", train, train + val), ("test", train + val, len(files))):
            parts[part] += files[start:stop]
    return parts


def pair_table(animals: Sequence[Animal], split: str, setting: str, seed: int = SEED) -> PairTable:
    """Every pair of one split and setting; a group above its cap is drawn without replacement.

    Setting ``all_pairs`` takes both directions of all pairs and needs no benchmark split.
    """
    columns = [_draw(group, seed, setting == "all_pairs") for group in _groups(animals, split, setting)]
    src, trg = (np.concatenate([c[i] for c in columns] or [np.empty(0, np.int64)]) for i in (0, 1))
    category = np.concatenate([c[2] for c in columns] or [np.empty(0, "<U1")])
    return PairTable(src, trg, category)


def _groups(animals: Sequence[Animal], split: str, setting: str) -> Iterator[Group]:
    animals = sorted(animals, key=lambda a: (a.family, a.species, a.file_name))
    if setting == "all_pairs":
        for category, own in _grouped(animals, "species"):
            yield Group(category, own, animals, _ids(own)[:, None] != _ids(animals)[None], None)
        return
    if (split, setting) not in CAPS:
        raise ValueError(f"AP-10K has no {setting} pairs of split {split}; it has {sorted(CAPS)}")
    cap = CAPS[split, setting]
    if setting == "intra_species":
        for category, own in _grouped(animals, "species"):
            limit = cap * len(own) if cap is not None else None
            yield Group(category, own, own, np.triu(np.ones((len(own), len(own)), bool), 1), limit)
    elif setting == "cross_species":
        for category, own in _grouped(animals, "family"):
            species = np.array([a.species for a in own])
            yield Group(category, own, own, np.triu(species[:, None] != species[None], 1), cap)
    else:
        for (_, one), (_, two) in itertools.combinations(_grouped(animals, "family"), 2):
            yield Group("all", one, two, np.ones((len(one), len(two)), bool), cap)


def _grouped(animals: Sequence[Animal], by: str) -> list[tuple[str, list[Animal]]]:
    groups: dict[str, list[Animal]] = defaultdict(list)
    for animal in animals:
        groups[getattr(animal, by)].append(animal)
    return sorted(groups.items())


def _draw(group: Group, seed: int, ordered: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    seen = [np.array([a.visible for a in side], np.float32) for side in (group.first, group.second)]
    rows, columns = np.nonzero(group.allowed & (seen[0] @ seen[1].T >= MIN_KEYPOINTS))
    first, second = _ids(group.first)[rows], _ids(group.second)[columns]
    if not ordered:
        bits = mixed(seed, np.minimum(first, second), np.maximum(first, second))
        if group.cap is not None and len(bits) > group.cap:
            keep = lowest(bits, group.cap)
            first, second, bits = first[keep], second[keep], bits[keep]
        swap = mixed(seed + 1, np.minimum(first, second), np.maximum(first, second)) >> np.uint64(63) == 1
        first, second = np.where(swap, second, first), np.where(swap, first, second)
    return first, second, np.full(len(first), group.category)


def _ids(animals: Sequence[Animal]) -> np.ndarray:
    return np.array([a.image for a in animals], np.int64)
