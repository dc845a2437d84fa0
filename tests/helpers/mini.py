"""Every benchmark in its own layout, as small as its reader allows, with pictures."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from helpers.spair_tree import put, write_tree
from PIL import Image
from scipy.io import savemat

SIZE = (64, 48)  # w, h


def spair71k(root: Path) -> Path:
    """All three splits over the same five images, with segmentations."""
    for split in ("trn", "val", "test"):
        write_tree(root, split=split)
    for path in (root / "JPEGImages").glob("*/*.jpg"):
        mask = root / "Segmentation" / path.parent.name / f"{path.stem}.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros(Image.open(path).size[::-1], np.uint8)
        pixels[6:-6, 8:-8] = 255
        Image.fromarray(pixels).save(mask)
    return root


def spair_u(root: Path) -> Path:
    """SPair-U without pictures: they are SPair-71k's."""
    write_tree(root, pictures=False)
    return root


def pseudo(data: Path, names: Sequence[str]) -> None:
    """Files of pseudo-labels for the experiments of these names: the true points of a few pairs, one mirrored."""
    import pandas as pd

    from geoalign.data import Livestock, SPair71k
    from geoalign.data.readers.pseudo import COLUMNS, PseudoFile, write_pseudo
    from geoalign.pseudo.label import facts

    for name in names:
        kind, place = (SPair71k, "spair71k") if name.startswith("diysc/") else (Livestock, "livestock")
        source, rows = kind(data / place, "trn"), list[tuple[object, ...]]()
        for number, pair in enumerate(source[:4]):
            for image in (pair.src, pair.trg):
                for point in np.flatnonzero(pair.visible).tolist():
                    rows.append((number, image.image_id, not number, point, *image.xy_px[point].tolist(), 0.5))
        table = pd.DataFrame([dict(zip(COLUMNS, row, strict=True)) for row in rows]).astype(COLUMNS)
        file = PseudoFile(table, facts(source.images, data / place), {})
        own = "spair71k" if place == "spair71k" else name.replace("_unlabelled/", "-")
        write_pseudo(data / "pseudo" / f"{own}.parquet", file)


def livestock(root: Path) -> Path:
    """Eight pictures of each species in each split, four of them of either cattle source; and the unseen set."""
    from geoalign.data.prepare import livestock as made
    from geoalign.data.prepare.livestock_originals import HOME, UNSEEN, Original

    rng = np.random.default_rng(0)
    for one in (HOME, UNSEEN):
        folder, notes = root / one.folder, dict[tuple[str, str], list[Any]]()
        for source, species in {(recording.source, recording.species) for recording in one.recordings}:
            for split in one.pictures:
                for at in range(4 if source in ("cattleA", "cattleB") else 8):
                    points = np.c_[rng.uniform(0.2, 0.8, (18, 2)) * (640, 480), np.full(18, 2)]
                    box = (64.0, 48.0, 512.0, 384.0)
                    original = Original(source, species, Path("x.jpg"), (480, 640), box, points)
                    note = made.annotate(original, f"{source}_{split}_{at:03d}")
                    assert note is not None
                    put(folder / f"ImageAnnotation/{species}/{note['filename'][:-4]}.json", json.dumps(note))
                    file = put(folder / f"JPEGImages/{species}/{note['filename']}", "")
                    Image.fromarray(rng.integers(0, 255, (480, 640, 3), np.uint8)).save(file)
                    notes.setdefault((split, source), []).append(note)
        for split in one.pictures:
            made._write_pairs(folder, split, one, notes)
        put(folder / "symmetry.yaml", made.symmetry_yaml())
    return root


def ap10k(root: Path) -> Path:
    """Two species of a family and one of another, with enough images for every split of the benchmark."""
    species = [(1, "cat", "Felidae"), (2, "lion", "Felidae"), (3, "dog", "Canidae")]
    files: list[dict[str, Any]] = [_coco_file(species) for _ in range(3)]
    rng = random.Random(0)
    (root / "data").mkdir(parents=True)
    first = root / "data" / "000000000001.jpg"
    picture(first)
    for number in range(1, 3 * 54 + 1):
        name = f"{number:012d}.jpg"
        if number > 1:
            shutil.copyfile(first, root / "data" / name)
        points = [v for _ in range(17) for v in (rng.randrange(1, SIZE[0]), rng.randrange(1, SIZE[1]), 2)]
        part = files[number % 3]
        part["images"].append({"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1]})
        part["annotations"].append(
            {"id": number, "image_id": number, "category_id": 1 + number % 3, "bbox": [2, 2, 50, 40],
             "keypoints": points, "iscrowd": 0}
        )  # fmt: skip
    for name, document in zip(("train", "val", "test"), files, strict=True):
        put(root / "annotations" / f"ap10k-{name}-split1.json", json.dumps(document))
    put(root / "is_crowd.txt", "999999999999\n")
    return root


def pf_pascal(root: Path) -> Path:
    """Two cats and their pairs in every list."""
    for name, points in {"2007_1": [[5, 6], [np.nan] * 2, [30, 20]], "2007_2": [[15, 9], [3, 3], [22, 12]]}.items():
        picture(root / "JPEGImages" / f"{name}.jpg")
        (root / "Annotations" / "cat").mkdir(parents=True, exist_ok=True)
        savemat(root / "Annotations" / "cat" / f"{name}.mat", {"kps": np.array(points, float)})
    lines = ["source_image,target_image,class", "2007_1.jpg,2007_2.jpg,8", "2007_2.jpg,2007_1.jpg,8"]
    for split in ("trn", "val", "test"):
        put(root / f"{split}_pairs_pf_pascal.csv", "\n".join(lines))
    return root


def picture(path: Path) -> None:
    """A small picture that is not plain."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise(SIZE, 60).convert("RGB").save(path)


def _coco_file(species: list[tuple[int, str, str]]) -> dict[str, Any]:
    categories = [{"id": i, "name": name, "supercategory": family} for i, name, family in species]
    return {"images": [], "annotations": [], "categories": categories}
