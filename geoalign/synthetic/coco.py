"""The synthetic quadrupeds as files in AP-10K's COCO-style layout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from geoalign.synthetic.jobs import RECIPE, Job, run
from geoalign.synthetic.once import write_once
from geoalign.synthetic.picture import Picture
from geoalign.synthetic.species import AP10K_NAMES, KEYPOINTS, SPECIES

AP10K_SPLITS = ("train", "val", "test")
_BONES = ((1, 2), (1, 3), (2, 3), (3, 4), (4, 5), (4, 6), (6, 7), (7, 8), (4, 9), (9, 10), (10, 11))
_BONES += ((5, 12), (12, 13), (13, 14), (5, 15), (15, 16), (16, 17))  # type: ignore[assignment]


def write_ap10k(
    root: str | Path,
    seed: int = 0,
    images: Mapping[str, int] | None = None,
    species: Sequence[str] = tuple(SPECIES),
    workers: int = 2,
    progress: bool = True,
) -> Path:
    """Write ``annotations/``, ``data/`` and an empty crowd list, or reuse ``root`` where it already holds them.

    ``images`` counts train, val and test images per species. Raises ValueError for unknown species or splits.
    """
    counts = dict(images or {"train": 20, "val": 5, "test": 10})
    if set(species) - set(SPECIES) or set(counts) != set(AP10K_SPLITS):
        wanted = f"species {', '.join(SPECIES)} and counts of {', '.join(AP10K_SPLITS)}"
        raise ValueError(f"AP-10K's layout takes {wanted}, got {list(species)} and {counts}")
    params = {"layout": "ap10k", "seed": seed, "images": counts, "species": list(species), "recipe": RECIPE}
    return write_once(Path(root), params, partial(_fill, params=params, workers=workers, progress=progress))


def _fill(root: Path, params: Mapping[str, Any], workers: int, progress: bool) -> dict[str, Any]:
    (root / "data").mkdir()
    (root / "annotations").mkdir()
    (root / "is_crowd.txt").write_text("", encoding="utf-8")
    first, counts = 1, {}
    for split in AP10K_SPLITS:
        jobs = [
            Job(params["seed"], f"ap10k-{split}", name, index)
            for name in params["species"]
            for index in range(params["images"][split])
        ]
        numbers = {job: first + i for i, job in enumerate(jobs)}
        first += len(jobs)
        notes = run(partial(_write_image, root, numbers), jobs, workers, progress)
        document = _document(params["species"], notes)
        path = root / "annotations" / f"ap10k-{split}-split1.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        counts[split] = len(jobs)
    return {"image_count": counts}


def _write_image(root: Path, numbers: Mapping[Job, int], job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
    picture, number = job.picture(), numbers[job]
    entry = image_entry(picture, number)
    Image.fromarray(picture.image).save(root / "data" / entry["file_name"], quality=95)
    return entry, animal_entry(picture, job.category, number)


def image_entry(picture: Picture, number: int) -> dict[str, Any]:
    """An image as AP-10K lists it."""
    h, w = picture.mask.shape
    return {"license": 1, "id": number, "file_name": f"{number:012d}.jpg", "width": w, "height": h, "background": 1}


def animal_entry(picture: Picture, species: str, number: int) -> dict[str, Any]:
    """An annotation as AP-10K lists it: 17 keypoints, ``[x, y, w, h]`` box; hidden points are ``0, 0, 0``."""
    h, w = picture.mask.shape
    triples: list[int] = []
    for name in AP10K_NAMES:
        slot = KEYPOINTS[species].index(name)
        x, y = np.minimum(np.round(picture.xy_px[slot]), [w - 1, h - 1])
        triples += [int(x), int(y), 2] if picture.visible[slot] else [0, 0, 0]
    x1, y1, x2, y2 = picture.box_px
    box = [x1, y1, x2 - x1, y2 - y1]
    facts = {"id": number, "image_id": number, "category_id": list(SPECIES).index(species) + 1, "bbox": box}
    facts |= {"area": box[2] * box[3], "iscrowd": 0, "num_keypoints": sum(v == 2 for v in triples[2::3])}
    return {**facts, "keypoints": triples}


def _document(species: Sequence[str], notes: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    bones, names = [list(bone) for bone in _BONES], list(AP10K_NAMES)
    categories = [
        {"id": number, "name": name, "supercategory": facts.family, "keypoints": names, "skeleton": bones}
        for number, (name, facts) in enumerate(SPECIES.items(), 1)
        if name in species
    ]
    return {
        "info": {"description": "geoalign synthetic animals", "url": "", "version": "1.0"},
        "licenses": [{"id": 1, "name": "Apache-2.0", "url": ""}],
        "images": [image for image, _ in notes],
        "annotations": [animal for _, animal in notes],
        "categories": categories,
    }
