"""AP-10K's COCO-style annotations, read and checked; the benchmark's rules live in ``ap10k_build``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from geoalign.data.records import DataError, ImageRecord
from geoalign.data.validation import FAR_OUTSIDE, Fields, plain_name, read_object

SLOTS = 17
SPLIT_FILES = tuple(f"ap10k-{part}-split1.json" for part in ("train", "val", "test"))


class Animal(NamedTuple):
    """One annotated animal with its image's facts; points and box in original pixels."""

    image: int
    annotation: int
    file_name: str
    size: tuple[int, int]  # (h, w)
    species: str
    family: str
    box_px: tuple[float, float, float, float]  # x1 y1 x2 y2
    xy_px: np.ndarray  # (17 2) float32, zero where not visible
    visible: np.ndarray  # (17) bool

    def record(self, path: Path) -> ImageRecord:
        """The animal as every reader yields it; AP-10K has no azimuth and no masks."""
        image_id = PurePosixPath(self.file_name).stem
        return ImageRecord(image_id, path, self.size, self.species, self.xy_px, self.visible, self.box_px)


def read_coco(path: Path) -> list[Animal]:
    """The first animal (lowest annotation id) of every image of one annotation file, by image id.

    Ids listed twice, unknown images and unknown categories are errors; images without an animal are left out.
    """
    document = read_object(path)
    species = {c.integer("id"): (c.text("name"), c.text("supercategory")) for c in _listed(document, "categories")}
    images = {i.integer("id"): i for i in _listed(document, "images")}
    first: dict[int, Animal] = {}
    for item in _listed(document, "annotations"):
        image, category = item.integer("image_id"), item.integer("category_id")
        if image not in images:
            raise item.fail("image_id", "an image the file lists", image)
        if category not in species:
            raise item.fail("category_id", f"one of the file's {len(species)} categories", category)
        animal = parse_animal(images[image], image, item, item.integer("id"), *species[category])
        if image not in first or animal.annotation < first[image].annotation:
            first[image] = animal
    return [first[image] for image in sorted(first)]


def merge(files: Iterable[tuple[Path, list[Animal]]]) -> list[Animal]:
    """The animals of several files by image id; an image may belong to one file only."""
    merged: dict[int, Animal] = {}
    for path, animals in files:
        for animal in animals:
            if animal.image in merged:
                remedy = "use the three files of one official split"
                raise DataError.at(path, "images", "images of this file only", f"{animal.image} again", remedy)
            merged[animal.image] = animal
    return [merged[image] for image in sorted(merged)]


def content_hash(animals: Iterable[Animal]) -> str:
    """SHA-256 of everything the annotations say, independent of file layout and order of reading."""
    digest = hashlib.sha256()
    for a in animals:
        digest.update(repr((a.image, a.annotation, a.file_name, a.size, a.species, a.family, a.box_px)).encode())
        digest.update(a.xy_px.astype("<f4").tobytes() + a.visible.tobytes())
    return digest.hexdigest()


def parse_animal(image: Fields, number: int, item: Fields, annotation: int, species: str, family: str) -> Animal:
    """An image's entry and one annotation of it; raises ``DataError`` naming the field."""
    size = image.size("width", "height")
    file_name = plain_name(image.text("file_name"), image.file, f"{image.prefix}file_name")
    x, y, w, h = _numbers(item, "bbox", 4).tolist()
    if w <= 0 or h <= 0 or _outside(np.array([[x, y], [x + w, y + h]]), size):
        raise item.fail("bbox", f"[x, y, w, h] with sides, in or near the {size[1]}x{size[0]} image", [x, y, w, h])
    points = _numbers(item, "keypoints", 3 * SLOTS).reshape(SLOTS, 3)
    if not {0, 1, 2}.issuperset(points[:, 2].tolist()):
        raise item.fail("keypoints", "x, y and visibility 0, 1 or 2", points[:, 2].tolist())
    visible = points[:, 2] > 0
    xy = np.where(visible[:, None], points[:, :2], 0.0)
    if _outside(xy, size):
        raise item.fail("keypoints", f"points in or near the {size[1]}x{size[0]} image", xy[visible].tolist())
    box = (x, y, x + w, y + h)
    return Animal(number, annotation, file_name, size, species, family, box, xy.astype(np.float32), visible)


def _listed(document: Fields, key: str) -> Iterator[Fields]:
    seen: set[int] = set()
    for place, entry in enumerate(document.items(key)):
        item = Fields(document.file, entry, f"{key}[{place}].", document.remedy)
        number = item.integer("id")
        if number in seen:
            raise item.fail("id", f"an id listed once in {key}", number)
        seen.add(number)
        yield item


def _numbers(item: Fields, key: str, count: int) -> np.ndarray:
    values = item.items(key, count)
    if not (set(map(type, values)) <= {int, float} and max(map(abs, values)) < 1e9):  # the usual case, fast
        values = [item.finite(key, value) for value in values]
    return np.array(values, np.float64)


def _outside(xy: np.ndarray, size: tuple[int, int]) -> bool:
    slack = FAR_OUTSIDE * max(size)
    return bool((xy < -slack).any() or (xy > [size[1] + slack, size[0] + slack]).any())
