"""Small generated datasets in SPair-71k's layout."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

IMAGES = {"cat": ("2008_000001", "2008_000002", "2008_000003"), "bus": ("2009_000004", "2009_000005")}


def annotation(category: str, name: str, seed: int = 0) -> dict[str, Any]:
    """A valid image annotation with ten visible points."""
    width, height = 60 + seed, 40 + 2 * seed
    kps = {str(k): [5 + 4 * k, 6 + 3 * k] if k < 8 + seed else None for k in range(30)}
    return {
        "filename": f"{name}.jpg", "src_database": "generated", "image_width": width, "image_height": height,
        "image_depth": 3, "category": category, "pose": "Unspecified", "truncated": 0, "occluded": 0, "difficult": 0,
        "bndbox": [3, 4, 50 + seed, 38 + seed], "kps": kps, "azimuth_id": (3 * seed) % 8,
    }  # fmt: skip


def pair_annotation(number: int, src: Mapping[str, Any], trg: Mapping[str, Any]) -> dict[str, Any]:
    """The pair file that belongs to two image annotations."""
    ids = [k for k in src["kps"] if src["kps"][k] and trg["kps"][k]]
    entry: dict[str, Any] = {"pair_id": number, "category": src["category"], "kps_ids": ids}
    for side, image in (("src", src), ("trg", trg)):
        entry[f"{side}_imname"] = image["filename"]
        entry[f"{side}_imsize"] = [image["image_width"], image["image_height"], 3]
        entry[f"{side}_bndbox"] = image["bndbox"]
        entry[f"{side}_kps"] = [image["kps"][k] for k in ids]
    return entry


def write_tree(
    root: Path, images: Mapping[str, Sequence[str]] = IMAGES, split: str = "test", pictures: bool = True
) -> list[str]:
    """Write the tree with every ordered pair of each category; gives the pairs' names in list order."""
    lines: list[str] = []
    for category, names in images.items():
        made = {name: annotation(category, name, seed) for seed, name in enumerate(names)}
        for name, document in made.items():
            put(root / "ImageAnnotation" / category / f"{name}.json", json.dumps(document))
            if pictures:
                picture = root / "JPEGImages" / category / f"{name}.jpg"
                picture.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (document["image_width"], document["image_height"]), (90, 120, 60)).save(picture)
        for src, trg in itertools.permutations(names, 2):
            lines.append(f"{len(lines) + 1:06d}-{src}-{trg}:{category}")
            pair = pair_annotation(len(lines), made[src], made[trg])
            put(root / "PairAnnotation" / split / f"{lines[-1]}.json", json.dumps(pair))
    put(root / "Layout" / "large" / f"{split}.txt", "\n".join(lines) + "\n")
    return lines


def put(path: Path, text: str) -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
