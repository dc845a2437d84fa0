"""AP-10K's COCO-style annotations, read and checked; the benchmark's rules live in ``ap10k_pairs``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32

from geoalign.data.readers.coco import coco_box, coco_objects, coco_points
from geoalign.data.readers.keypoints import ABSENT, Box, checked_points, is_near
from geoalign.data.records import DataError, ImageRecord
from geoalign.data.validation import Fields, plain_name, read_object

SLOTS = 17
SPLITS = ("train", "val", "test")


class Animal(NamedTuple):
    """One annotated animal with its image's facts; points and box in original pixels."""

    image: int
    annotation: int
    file_name: str
    size: tuple[int, int]  # (h, w)
    species: str
    family: str
    box_px: Box
    xy_px: Float32[np.ndarray, "17 2"]  # zero where not visible
    visible: Bool[np.ndarray, "17"]

    def record(self, path: Path) -> ImageRecord:
        """The animal as every reader yields it; AP-10K has no azimuth and no masks."""
        image_id = PurePosixPath(self.file_name).stem
        return ImageRecord(image_id, path, self.size, self.species, self.xy_px, self.visible, self.box_px)


def annotation_file(root: Path, split: str) -> Path:
    """The annotations of one official split (train, val or test)."""
    return root / "annotations" / f"ap10k-{split}-split1.json"


def read_coco(path: Path) -> list[Animal]:
    """The first animal (lowest annotation id) of every image of one annotation file, by image id.

    Images without an animal are left out.

    Raises:
        DataError: ids listed twice, unknown images or categories, and whatever is wrong with any animal.
    """
    first: dict[int, Animal] = {}
    for item, image, category in coco_objects(read_object(path)):
        species, family = category.text("name"), category.text("supercategory")
        animal = parse_animal(image, item, item.integer("id"), species, family)
        first.setdefault(animal.image, animal)
    return [first[image] for image in sorted(first)]


def read_annotations(root: Path) -> list[Animal]:
    """The animals of the three official files below ``root/annotations`` by image id.

    Raises:
        DataError: an image is in two files, or a file is wrong.
    """
    merged: dict[int, Animal] = {}
    for path in (annotation_file(root, split) for split in SPLITS):
        animals = {animal.image: animal for animal in read_coco(path)}
        for image in sorted(merged.keys() & animals):
            remedy = "use the three files of one official split"
            raise DataError.at(path, "images", "images of this file only", f"{image} again", remedy)
        merged |= animals
    return [merged[image] for image in sorted(merged)]


def content_hash(animals: Iterable[Animal]) -> str:
    """SHA-256 of everything the annotations say, independent of file layout and order of reading."""
    digest = hashlib.sha256()
    for a in animals:
        digest.update(repr((a.image, a.annotation, a.file_name, a.size, a.species, a.family, a.box_px)).encode())
        digest.update(a.xy_px.astype("<f4").tobytes() + a.visible.tobytes())
    return digest.hexdigest()


def parse_animal(image: Fields, item: Fields, annotation: int, species: str, family: str) -> Animal:
    """An image's entry and one annotation of it; raises ``DataError`` naming the field."""
    size = image.size("width", "height")
    file_name = plain_name(image.text("file_name"), image.file, f"{image.prefix}file_name")
    box = coco_box(item)
    if not (is_near(*box[:2], size) and is_near(*box[2:], size)):
        raise item.fail("bbox", f"a box in or near the {size[1]}x{size[0]} image", box)
    points = [point or ABSENT for point in coco_points(item, SLOTS)]
    xy, visible = checked_points(np.array(points), SLOTS, size, item, "keypoints")
    return Animal(image.integer("id"), annotation, file_name, size, species, family, box, xy, visible)
