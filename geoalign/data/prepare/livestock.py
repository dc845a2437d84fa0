"""LivestockKeypoints v1.0 (Yiwei Wang et al., CC BY 4.0) as a benchmark of pairs in SPair-71k's layout.

The photographs are frames of videos, and the authors' own split has near copies of its test frames in training, so
pictures are split by clip and near copies are dropped. Six points are those of the side that is seen, whichever that
is: they are named by that side here, so that two opposite views never share a wrong point.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image
from tqdm import tqdm

from geoalign.data.images import open_rgb
from geoalign.data.prepare.unpack import settle
from geoalign.data.readers.coco import coco_objects
from geoalign.data.records import DataError, as_data_errors
from geoalign.data.validation import plain_name, read_object
from geoalign.files import sha256
from geoalign.synthetic.write import pair_annotation

ORIGINAL = "original/data_process"
"""Where the authors' folder lies below the dataset's."""
MIDDLE = ("mouth", "neck", "chest", "tail")
NEAR = ("eye", "ear", "shoulder", "hip", "elbow", "hind_knee")
LEGS = ("fore_wrist", "fore_foot", "hind_hock", "hind_foot")
POINTS = (
    "mouth", "eye", "ear", "neck", "shoulder", "chest", "hip", "tail", "elbow", "l_fore_wrist", "l_fore_foot",
    "r_fore_wrist", "r_fore_foot", "hind_knee", "l_hind_hock", "l_hind_foot", "r_hind_hock", "r_hind_foot",
)  # fmt: skip
"""The authors' points in the order of every file, also of those that name them otherwise."""
SLOTS = (*MIDDLE, *(f"{side}_{part}" for part in (*NEAR, *LEGS) for side in ("left", "right")))
FEET, JOINTS = ("_foot",), ("_wrist", "_hock")
SPECIES = ("horse", "sheep", "cattle")
VISIBLE, ABSENT = 2, 0
SIDE_PX, QUALITY = 640, 88
NEAR_COPY, NEAR_COPY_INSIDE = 0.11, 0.06
"""Share of 256 gradient signs below which two pictures are copies: of different splits, and of the same."""
FEWEST_POINTS, FEWEST_SHARED = 6, 3
PAIRS = {"trn": 1200, "val": 150, "test": 400}
"""Per species, at most."""
README = (
    "LivestockPairs: real photographs in SPair-71k's layout, made from LivestockKeypoints v1.0 (Yiwei Wang et al.), "
    "licensed under CC BY 4.0; changed: resized to 640 px, near copies dropped, points renamed by the side that is "
    "seen, pairs drawn. One animal a photo, seen from its left (azimuth_id 2) or right (6).\n"
)

Note = dict[str, Any]
"""An image annotation with SPair-71k's keys."""


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


def build(root: Path, sets: Sequence[Set] = (HOME, UNSEEN), progress: bool = True) -> dict[str, int]:
    """Make the sets below ``root`` from ``root/original``; the number of pairs by folder and split.

    Everything is made in a hidden folder first and moved into place at the end. The same files give the same pairs.

    Raises:
        DataError: an annotation file of another version, a missing photograph, too few pictures of a species.
    """
    pairs: dict[str, int] = {}
    draft = Path(tempfile.mkdtemp(prefix=".building-", dir=root))
    try:
        for one in sets:
            _require_photographs(root / ORIGINAL, one.recordings)
            originals = list(read_originals(root / ORIGINAL, one.recordings))
            notes = _write_pictures(draft / one.folder, one, originals, progress)
            for split in one.pictures:
                pairs[f"{one.folder} {split}".strip()] = _write_pairs(draft / one.folder, split, one, notes)
            (draft / one.folder / "symmetry.yaml").write_text(symmetry_yaml(), encoding="utf-8")
            (draft / one.folder / "README.md").write_text(README, encoding="utf-8")
        settle(draft, root)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return pairs


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


def slot(point: str, from_left: bool) -> int:
    """The slot of one of :data:`POINTS` in a view of the animal's left, or right.

    >>> SLOTS[slot("eye", from_left=False)], SLOTS[slot("l_fore_foot", from_left=False)]
    ('right_eye', 'left_fore_foot')
    """
    if point in NEAR:
        point = f"{'left' if from_left else 'right'}_{point}"
    elif point not in MIDDLE:
        point = f"{ {'l': 'left', 'r': 'right'}[point[0]] }{point[1:]}"
    return SLOTS.index(point)


def in_order(originals: Iterable[Original], one: Set) -> list[tuple[str, Original]]:
    """The pictures with their splits in the order in which they are tried: shuffled, test before val before trn."""
    shuffled = list(originals)
    random.Random(7).shuffle(shuffled)
    if list(one.pictures) == ["test"]:
        return [("test", original) for original in shuffled]
    splits = [(split_of(clip(original.source, original.picture.name)), original) for original in shuffled]
    return [(split, original) for split in ("test", "val", "trn") for own, original in splits if own == split]


def annotate(original: Original, name: str) -> Note | None:
    """The picture's annotation at 640 px; None where the side seen is not marked or less than six points are visible.

    An animal that looks to the picture's left, its mouth left of its tail, shows its left side.
    """
    scale = SIDE_PX / max(original.size)
    h, w = (round(side * scale) for side in original.size)
    mouth, tail = (original.points[POINTS.index(point)] for point in ("mouth", "tail"))
    from_left = bool(mouth[0] < tail[0])
    kps: dict[str, list[int] | None] = {str(at): None for at in range(30)}
    for point, (x, y, mark) in zip(POINTS, original.points, strict=True):
        x, y = x * scale, y * scale
        if mark == VISIBLE and 0 <= x < w and 0 <= y < h:
            kps[str(slot(point, from_left))] = [round(min(x, w - 1)), round(min(y, h - 1))]
    if ABSENT in (mouth[2], tail[2]) or sum(point is not None for point in kps.values()) < FEWEST_POINTS:
        return None
    x, y, box_w, box_h = (value * scale for value in original.box_px)
    return {
        "filename": f"{name}.jpg",
        "src_database": "LivestockKeypoints v1.0, CC BY 4.0",
        "src_annotation": original.source,
        "src_image": original.picture.name,
        **{"image_width": w, "image_height": h, "image_depth": 3},
        "category": original.species,
        "pose": "Left" if from_left else "Right",
        **dict.fromkeys(("truncated", "occluded", "difficult"), 0),
        "bndbox": [int(x) + 1, int(y) + 1, min(round(x + box_w), w), min(round(y + box_h), h)],
        "kps": kps,
        "azimuth_id": 2 if from_left else 6,
    }


def choose(
    one: Set, originals: Iterable[Original], open_new: Callable[[str, Original], Image.Image | None]
) -> Iterator[tuple[str, Note, Image.Image]]:
    """The pictures to keep, with split and annotation, as long as a source's share of its species is not used up.

    ``open_new`` gives a picture that is no near copy of one kept before, else None.
    """
    kept: dict[tuple[str, str], int] = defaultdict(int)
    sources = {(recording.species, recording.source) for recording in one.recordings}
    for split, original in in_order(originals, one):
        share = one.pictures[split] // sum(species == original.species for species, _ in sources)
        number = kept[split, original.source]
        note = annotate(original, f"{original.source}_{split}_{number:03d}") if number < share else None
        image = open_new(split, original) if note is not None else None
        if note is not None and image is not None:
            kept[split, original.source] += 1
            yield split, note, image


class NewPictures:
    """Opens a picture unless it is a near copy of one opened before."""

    def __init__(self) -> None:
        self.kept: dict[str, list[tuple[str, Bool[np.ndarray, "256"]]]] = defaultdict(list)

    def __call__(self, split: str, original: Original) -> Image.Image | None:
        """The picture as RGB, or None; raises ``DataError`` where it is missing, damaged or of another size."""
        image = open_rgb(original.picture, original.size)
        bits = dhash(image)
        for other, known in self.kept[original.species]:
            if (bits != known).mean() < (NEAR_COPY_INSIDE if other == split else NEAR_COPY):
                return None
        self.kept[original.species].append((split, bits))
        return image


def dhash(image: Image.Image) -> Bool[np.ndarray, "256"]:
    """Whether grey rises from each cell to the next in a 16 x 17 miniature: what two copies of a picture share."""
    grey = np.asarray(image.convert("L").resize((17, 16)), float)
    return (grey[:, 1:] > grey[:, :-1]).ravel()


def draw_pairs(notes: Sequence[Note], split: str, species: str) -> list[tuple[Note, Note]]:
    """Pairs of a species' pictures that share three points or more, drawn by a seed of split and species."""

    def shared(a: Note, b: Note) -> int:
        return sum(a["kps"][at] is not None and point is not None for at, point in b["kps"].items())

    able = [(a, b) for a in notes for b in notes if a is not b and shared(a, b) >= FEWEST_SHARED]
    random.Random(f"{split}{species}").shuffle(able)
    return able[: PAIRS[split]]


def symmetry_yaml() -> str:
    """The mirror table: sides, their partners, and the points that look alike."""
    import yaml

    mirror = [[at, SLOTS.index(f"right{name[4:]}")] for at, name in enumerate(SLOTS) if name.startswith("left_")]
    feet, joints = ([i for i, name in enumerate(SLOTS) if name.endswith(ends)] for ends in (FEET, JOINTS))
    groups = [feet, joints, *(pair for pair in mirror if pair[0] not in (*feet, *joints))]
    side = [1 if name.startswith("left_") else 2 if name.startswith("right_") else 0 for name in SLOTS]
    table = {"names": list(SLOTS), "mirror_pairs": mirror, "groups": groups}
    tables = {species: {**table, "side": list(side)} for species in SPECIES}
    return str(yaml.safe_dump(tables, sort_keys=False, default_flow_style=None, width=118))


def _require_photographs(folder: Path, recordings: Iterable[Recording]) -> None:
    for images in (folder / recording.images for recording in recordings):
        if not images.is_dir() or not any(images.iterdir()):
            raise DataError.at(images, "folder", "the photographs", "none", f"unpack the whole archive to {ORIGINAL}")


def _write_pictures(
    folder: Path, one: Set, originals: Sequence[Original], progress: bool
) -> dict[tuple[str, str], list[Note]]:
    """Write photographs and their annotations; these by split and source."""
    notes: dict[tuple[str, str], list[Note]] = defaultdict(list)
    for split, note, image in tqdm(choose(one, originals, NewPictures()), disable=None if progress else True):
        species, name = note["category"], Path(note["filename"]).stem
        size = note["image_width"], note["image_height"]
        for kind in ("JPEGImages", "ImageAnnotation"):
            (folder / kind / species).mkdir(parents=True, exist_ok=True)
        image.resize(size, Image.Resampling.LANCZOS).save(
            folder / "JPEGImages" / species / f"{name}.jpg", quality=QUALITY
        )
        (folder / "ImageAnnotation" / species / f"{name}.json").write_text(json.dumps(note), encoding="utf-8")
        notes[split, note["src_annotation"]].append(note)
    return notes


def _write_pairs(folder: Path, split: str, one: Set, notes: Mapping[tuple[str, str], Sequence[Note]]) -> int:
    """Write a split's pairs and their list; the number."""
    pairs_folder, layout = folder / "PairAnnotation" / split, folder / "Layout" / "large"
    for path in (pairs_folder, layout):
        path.mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    for species in [name for name in SPECIES if name in {recording.species for recording in one.recordings}]:
        own = [note for (part, _), some in notes.items() if part == split for note in some]
        own = [note for note in own if note["category"] == species]
        pairs = draw_pairs(own, split, species)
        if not pairs:
            expected = f"at least two pictures of {species} that share {FEWEST_SHARED} points in split {split}"
            raise DataError.at(one.folder or "livestock", "pictures", expected, len(own), "add clips of that species")
        for src, trg in pairs:
            ends = "-".join(Path(note["filename"]).stem for note in (src, trg))
            names.append(f"{len(names) + 1:06d}-{ends}:{species}")
            note = pair_annotation(len(names), names[-1], src, trg) | {"scale_variation": 0}
            (pairs_folder / f"{names[-1]}.json").write_text(json.dumps(note), encoding="utf-8")
    (layout / f"{split}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return len(names)
