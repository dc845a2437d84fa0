"""The original files of LivestockKeypoints v1.0 (Yiwei Wang et al., CC BY 4.0): where they lie and what they say."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from geoalign.data.readers.coco import coco_objects
from geoalign.data.records import DataError, as_data_errors
from geoalign.data.validation import plain_name, read_object
from geoalign.files import sha256

ORIGINAL = "original/data_process"
"""Where the authors' folder lies below the dataset's."""
POINTS = (
    "mouth", "eye", "ear", "neck", "shoulder", "chest", "hip", "tail", "elbow", "l_fore_wrist", "l_fore_foot",
    "r_fore_wrist", "r_fore_foot", "hind_knee", "l_hind_hock", "l_hind_foot", "r_hind_hock", "r_hind_foot",
)  # fmt: skip
"""The authors' points in the order of every file, also of those that name them otherwise."""


class Recording(NamedTuple):
    """An annotation file of the original data and its folder of photographs: of one source, a farm's species."""

    source: str
    species: str
    annotations: str
    images: str


class Original(NamedTuple):
    """One annotated photograph; ``points`` are x, y and mark (0 absent, 1 hidden, 2 visible), in pixels."""

    source: str
    species: str
    picture: Path
    size: tuple[int, int]  # (h, w)
    box_px: tuple[float, float, float, float]  # x y w h
    points: Float[np.ndarray, "18 3"]


class Set(NamedTuple):
    """A folder in SPair-71k's layout: where below the root, from which files, and how many pictures of a species."""

    folder: str
    recordings: tuple[Recording, ...]
    pictures: Mapping[str, int]


def _farm(letter: str) -> Recording:
    folder = f"cattle/{letter}"
    return Recording(f"cattle{letter}", "cattle", f"{folder}/annotations/_annotations.coco.json", f"{folder}/images")


def _part(species: str, part: str) -> Recording:
    folder = f"{species}/annotations"
    return Recording(species, species, f"{folder}/{part}_annotations.coco.json", f"{species}/images/{part}")


HOME = Set(
    "",
    (
        *(_part(species, part) for species in ("horse", "sheep") for part in ("train", "val", "test")),
        *(_farm("A"), _farm("B")),
    ),
    {"trn": 130, "val": 25, "test": 50},
)
UNSEEN = Set(
    "unseen",
    (_farm("C"), Recording("ap10k", "sheep", "test_data/annotations/test_annotations.coco.json", "test_data/images")),
    {"test": 75},
)
VERSION = {
    "horse/annotations/train_annotations.coco.json": "3ed9617b3935ff3bfac0c6db1600d62086458be43f71e019a1be1b17e3f9bf8a",
    "horse/annotations/val_annotations.coco.json": "c77146091913a3082d97313ef733fc3d99c82d36cbad0538516db2e5ae778b27",
    "horse/annotations/test_annotations.coco.json": "68df2e381a4031c49d01a878f809fc6bb84db3ee51907a217dee947376881e1d",
    "sheep/annotations/train_annotations.coco.json": "e52dea55dd1285a16d9c23e4907737b0d32737620e9241a63b373595966cc5e6",
    "sheep/annotations/val_annotations.coco.json": "bb5a3738552763e0edadb583661714d72476c6703e1b8aee9630d21775f14387",
    "sheep/annotations/test_annotations.coco.json": "da97c62201289c1117f67037c90e4d5d464c3a510f3be8a8b2c1850bbd15ef95",
    "cattle/A/annotations/_annotations.coco.json": "cd471fc7d01ae52fd23d645bd026a5be3e06a0ff31a67180075ac4c80ac258e1",
    "cattle/B/annotations/_annotations.coco.json": "08097c1292a653feb5820b535daf4991ebe089768612b46b8534ba0088982d49",
    "cattle/C/annotations/_annotations.coco.json": "306f2f96575c86c3d0f800db563acb4620d38305b4e096d2e2ba0c6b1e51d32e",
    "test_data/annotations/test_annotations.coco.json": (
        "b68e84129cd24453d535f2134a8afbbd15af9b95b52bf9a5358bfcce1b3fbe68"
    ),
}
"""SHA-256 of the annotation files of v1.0."""


def read_originals(folder: Path, recordings: Iterable[Recording]) -> Iterator[Original]:
    """Every annotation, file by file; raises ``DataError`` for a file of another version."""
    for recording in recordings:
        path, images = folder / recording.annotations, folder / recording.images
        with as_data_errors():
            digest = sha256(path)
        if digest != VERSION[recording.annotations]:
            expected = f"the file of LivestockKeypoints v1.0, {VERSION[recording.annotations][:12]}..."
            raise DataError.at(path, "sha256", expected, f"{digest[:12]}...", "take the data of that version")
        for item, image, _ in coco_objects(read_object(path)):
            points, box = item.numbers("keypoints", 3 * len(POINTS)), item.numbers("bbox", 4)
            picture = images / plain_name(image.text("file_name"), path, "file_name")
            yield Original(
                recording.source, recording.species, picture, image.size("width", "height"),
                (box[0], box[1], box[2], box[3]), np.array(points, np.float64).reshape(-1, 3),
            )  # fmt: skip


def clip(source: str, file: str) -> str:
    """The video, or stretch of twelve frames, that a picture comes from.

    >>> clip("horse", "dao-14-1-_png.rf.0026.jpg"), clip("sheep", "left-153-_png.rf.5ff6.jpg")
    ('horse/dao-14', 'sheep/left12')
    """
    name = re.split(r"_(?:png|jpg)\.rf", file)[0]
    if source == "horse":
        return f"{source}/{'-'.join(re.split('[-_]', name)[:2])}"
    if source not in ("sheep", "cattleA"):
        return f"{source}/{name}"
    number = re.search(r"\d+", name)
    side = "" if name[:1].isdigit() else re.split("[-_]", name)[0]
    return f"{source}/{side}{int(number.group()) // 12 if number else 0}"


def split_of(clip: str) -> str | None:
    """The split of a clip, by a hash of its name: 68 % trn, 8 % val, 22 % test; a tenth of all is in none."""
    share = int(hashlib.sha256(f"live{clip}".encode()).hexdigest(), 16) % 100
    return None if share < 10 else "test" if share < 32 else "val" if share < 40 else "trn"


def require_photographs(folder: Path, recordings: Iterable[Recording]) -> None:
    """Raise ``DataError`` for a recording's folder without photographs."""
    for images in (folder / recording.images for recording in recordings):
        if not images.is_dir() or not any(images.iterdir()):
            raise DataError.at(images, "folder", "the photographs", "none", f"unpack the whole archive to {ORIGINAL}")
