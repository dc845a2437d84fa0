"""LivestockKeypoints v1.0 (Yiwei Wang et al., CC BY 4.0) as a benchmark of pairs in SPair-71k's layout.

The photographs are frames of videos, and the authors' own split has near copies of its test frames in training, so
pictures are split by clip and near copies are dropped. Six points are those of the side that is seen, whichever that
is: they are named by that side here, so that two opposite views never share a wrong point.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import Image
from tqdm import tqdm

from geoalign.data.images import open_rgb
from geoalign.data.prepare.livestock_originals import (
    HOME,
    ORIGINAL,
    POINTS,
    UNSEEN,
    Original,
    Set,
    clip,
    read_originals,
    require_photographs,
    split_of,
)
from geoalign.data.prepare.unpack import settle
from geoalign.data.records import DataError
from geoalign.synthetic.write import pair_annotation

MIDDLE = ("mouth", "neck", "chest", "tail")
NEAR = ("eye", "ear", "shoulder", "hip", "elbow", "hind_knee")
LEGS = ("fore_wrist", "fore_foot", "hind_hock", "hind_foot")
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
            require_photographs(root / ORIGINAL, one.recordings)
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
