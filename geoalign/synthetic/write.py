"""The synthetic benchmark as files in SPair-71k's layout."""

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
from geoalign.synthetic.scene import content_rng
from geoalign.synthetic.species import CATEGORIES, symmetry

SLOTS = 30
SPLITS = ("trn", "val", "test")
IMAGES: Mapping[str, int] = {"trn": 40, "val": 10, "test": 20}
"""Images per category and split."""
PAIRS: Mapping[str, int] = {"trn": 400, "val": 60, "test": 160}
"""Pairs per category and split, at most."""
_POSES = ("Frontal", "Left", "Left", "Left", "Rear", "Right", "Right", "Right")

Annotation = dict[str, Any]


def write_synthetic(
    root: str | Path,
    seed: int = 0,
    images: Mapping[str, int] = IMAGES,
    pairs: Mapping[str, int] = PAIRS,
    categories: Sequence[str] = CATEGORIES,
    workers: int = 2,
    progress: bool = True,
) -> Path:
    """Write the data set, or reuse ``root`` where it already holds it; ``images`` and ``pairs`` count per category.

    Files depend on the seed and the counts alone. Raises ValueError for unknown categories or splits and
    FileExistsError where ``root`` holds something else.
    """
    params = parameters(seed, images, pairs, categories)
    return write_once(Path(root), params, partial(_fill, params=params, workers=workers, progress=progress))


def parameters(
    seed: int, images: Mapping[str, int], pairs: Mapping[str, int], categories: Sequence[str]
) -> dict[str, Any]:
    """The checked settings that decide a data set's content; see :func:`~.once.default_root`."""
    unknown = sorted(set(categories) - set(CATEGORIES))
    if unknown or not categories:
        raise ValueError(f"categories are some of {', '.join(CATEGORIES)}, got {list(categories)}")
    for name, counts in (("images", images), ("pairs", pairs)):
        if set(counts) != set(SPLITS) or min(counts.values()) < 0:
            raise ValueError(f"{name} counts {', '.join(SPLITS)} per category, got {dict(counts)}")
    ordered = [c for c in CATEGORIES if c in categories]
    return {"seed": seed, "images": dict(images), "pairs": dict(pairs), "categories": ordered, "recipe": RECIPE}


def _fill(root: Path, params: Mapping[str, Any], workers: int, progress: bool) -> dict[str, Any]:
    jobs = [
        Job(params["seed"], split, category, index)
        for split in SPLITS
        for category in params["categories"]
        for index in range(params["images"][split])
    ]
    for folder in ("JPEGImages", "ImageAnnotation", "Segmentation"):
        for category in params["categories"]:
            (root / folder / category).mkdir(parents=True)
    made = dict(zip(jobs, run(partial(_write_image, root), jobs, workers, progress), strict=True))
    counts = {}
    for split in SPLITS:
        groups = [
            [note for job, note in made.items() if (job.split, job.category) == (split, category)]
            for category in params["categories"]
        ]
        chosen = [_choose(notes, params["seed"], split, params["pairs"][split]) for notes in groups]
        counts[split] = _write_pairs(root, split, [pair for group in chosen for pair in group])
    (root / "symmetry.yaml").write_text(_symmetry_yaml(params["categories"]), encoding="utf-8")
    return {"image_count": len(jobs), "pair_count": counts}


def _write_image(root: Path, job: Job) -> Annotation:
    picture, place = job.picture(), Path(job.category) / job.name
    Image.fromarray(picture.image).save(root / "JPEGImages" / f"{place}.jpg", quality=95)
    Image.fromarray(picture.mask.astype(np.uint8) * 255).save(root / "Segmentation" / f"{place}.png")
    note = annotation(picture, job)
    (root / "ImageAnnotation" / f"{place}.json").write_text(json.dumps(note), encoding="utf-8")
    return note


def annotation(picture: Picture, job: Job) -> Annotation:
    """An image annotation with SPair-71k's keys: points in whole pixels, a 1-based inclusive box."""
    h, w = picture.mask.shape
    points = [[int(x), int(y)] for x, y in np.minimum(np.round(picture.xy_px), [w - 1, h - 1])]
    seen = [point if v else None for point, v in zip(points, picture.visible.tolist(), strict=True)]
    x1, y1, x2, y2 = picture.box_px
    return {
        "filename": f"{job.name}.jpg",
        "src_database": "geoalign synthetic",
        "src_annotation": "rendered",
        "src_image": f"seed {job.seed}",
        **{"image_width": w, "image_height": h, "image_depth": 3, "category": job.category},
        "pose": _POSES[picture.azimuth_id],
        **{"truncated": int(picture.truncated), "occluded": int(picture.occluded), "difficult": 0},
        "bndbox": [x1 + 1, y1 + 1, x2, y2],
        "kps": {str(slot): seen[slot] if slot < len(seen) else None for slot in range(SLOTS)},
        "azimuth_id": picture.azimuth_id,
    }


def _choose(notes: Sequence[Annotation], seed: int, split: str, most: int) -> list[tuple[Annotation, Annotation]]:
    """Ordered pairs of a category's images with three keypoints in common, a seeded subset of them."""
    able = [(a, b) for a in notes for b in notes if a is not b and len(_common(a, b)) >= 3]
    if len(able) <= most:
        return able
    rng = content_rng(seed, split, notes[0]["category"], "pairs")
    return [able[i] for i in sorted(rng.choice(len(able), most, replace=False))]


def _common(a: Annotation, b: Annotation) -> list[str]:
    return [slot for slot in a["kps"] if a["kps"][slot] is not None and b["kps"][slot] is not None]


def _write_pairs(root: Path, split: str, pairs: Sequence[tuple[Annotation, Annotation]]) -> int:
    folder, layout = root / "PairAnnotation" / split, root / "Layout" / "large"
    folder.mkdir(parents=True)
    layout.mkdir(parents=True, exist_ok=True)
    names = []
    for number, (src, trg) in enumerate(pairs, 1):
        stems = f"{Path(src['filename']).stem}-{Path(trg['filename']).stem}"
        names.append(f"{number:06d}-{stems}:{src['category']}")
        note = pair_annotation(number, names[-1], src, trg)
        (folder / f"{names[-1]}.json").write_text(json.dumps(note), encoding="utf-8")
    (layout / f"{split}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return len(names)


def pair_annotation(number: int, name: str, src: Annotation, trg: Annotation) -> Annotation:
    """A pair annotation with SPair-71k's keys."""
    shared, ends = _common(src, trg), {"src": src, "trg": trg}
    steps = abs(src["azimuth_id"] - trg["azimuth_id"])
    sides = [max(e["bndbox"][2] - e["bndbox"][0], e["bndbox"][3] - e["bndbox"][1]) for e in (src, trg)]
    return {
        **{"pair_id": number, "filename": name},
        **{f"{end}_imname": note["filename"] for end, note in ends.items()},
        **{f"{end}_imsize": [note["image_width"], note["image_height"], 3] for end, note in ends.items()},
        **{f"{end}_bndbox": note["bndbox"] for end, note in ends.items()},
        "category": src["category"],
        **{f"{end}_pose": note["pose"] for end, note in ends.items()},
        **{f"{end}_kps": [note["kps"][slot] for slot in shared] for end, note in ends.items()},
        "kps_ids": shared,
        "mirror": int({src["pose"], trg["pose"]} == {"Left", "Right"}),
        "viewpoint_variation": min(steps, 8 - steps, 2),
        "scale_variation": int(max(sides) > 1.5 * min(sides)) + int(max(sides) > 2.25 * min(sides)),
        **{kind: src[k] + 2 * trg[k] for kind, k in (("truncation", "truncated"), ("occlusion", "occluded"))},
    }


def _symmetry_yaml(categories: Sequence[str]) -> str:
    import yaml

    def lists(values: Sequence[Sequence[int]]) -> list[list[int]]:
        return [list(value) for value in values]

    tables = {}
    for category in categories:
        facts = symmetry(category)
        tables[category] = {"names": list(facts.names), "mirror_pairs": lists(facts.mirror_pairs)}
        tables[category] |= {"groups": lists(facts.groups), "side": list(facts.side)}
    return str(yaml.safe_dump(tables, sort_keys=False, default_flow_style=None, width=118))
