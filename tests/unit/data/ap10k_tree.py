"""Annotation files like AP-10K's, of any size, for tests: no images, real families and species."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

FAMILIES = {
    "Bovidae": ["antelope", "argali sheep", "bison", "buffalo", "cow", "sheep"],
    "Canidae": ["arctic fox", "dog", "fox", "wolf"],
    "Castoridae": ["beaver"],
    "Cercopithecidae": ["alouatta", "monkey", "noisy night monkey", "spider monkey", "uakari"],
    "Cervidae": ["deer", "moose"],
    "Cricetidae": ["hamster"],
    "Elephantidae": ["elephant"],
    "Equidae": ["horse", "zebra"],
    "Felidae": [
        *("bobcat", "cat", "cheetah", "jaguar", "king cheetah"),
        *("leopard", "lion", "panther", "snow leopard", "tiger"),
    ],
    "Giraffidae": ["giraffe"],
    "Hippopotamidae": ["hippo"],
    "Hominidae": ["chimpanzee", "gorilla", "orangutan"],
    "Leporidae": ["rabbit"],
    "Mephitidae": ["skunk"],
    "Muridae": ["mouse", "rat"],
    "Mustelidae": ["otter", "weasel"],
    "Procyonidae": ["raccoon"],
    "Rhinocerotidae": ["rhino"],
    "Sciuridae": ["marmot", "squirrel"],
    "Suidae": ["pig"],
    "Talpidae": ["mole"],
    "Ursidae": ["black bear", "brown bear", "panda", "polar bear"],
    "Vespertilionidae": ["bat"],
}
SPECIES = [(name, family) for family, names in FAMILIES.items() for name in names]
FEW = {"argali sheep": 45, "black bear": 50, "king cheetah": 25}  # no training images; king cheetah no val either
CATEGORIES = [{"id": i + 1, "name": s, "supercategory": f} for i, (s, f) in enumerate(SPECIES)]


def counts(total: int) -> list[int]:
    """Images per species, uneven, ``total`` in sum."""
    weights = [0 if name in FEW else 60 + 37 * i % 271 for i, (name, _) in enumerate(SPECIES)]
    rest = total - sum(FEW.values())
    wanted = [FEW.get(name, w * rest // sum(weights)) for (name, _), w in zip(SPECIES, weights, strict=True)]
    wanted[weights.index(max(weights))] += total - sum(wanted)
    return wanted


def animal(rng: random.Random, number: int, image: int, category: int) -> dict[str, Any]:
    """One annotation; few keypoints on some, none hidden on others."""
    seen = rng.random() ** 0.4
    points = [[rng.randrange(1, 640), rng.randrange(1, 480), rng.choice((1, 2))] for _ in range(17)]
    flat = [v for p in points for v in (p if rng.random() < seen else [0, 0, 0])]
    box = [rng.randrange(200), rng.randrange(150), rng.randrange(50, 400), rng.randrange(50, 300)]
    return {"id": number, "image_id": image, "category_id": category, "bbox": box, "keypoints": flat, "iscrowd": 0}


def documents(total: int = 10_015, extra: int = 300, seed: int = 0) -> list[dict[str, Any]]:
    """The train, val and test documents: ``total`` images, ``extra`` of them with a second animal."""
    rng = random.Random(seed)
    species = [i + 1 for i, n in enumerate(counts(total)) for _ in range(n)]
    rng.shuffle(species)
    files: list[dict[str, Any]] = [{"images": [], "annotations": [], "categories": CATEGORIES} for _ in range(3)]
    for image, category in enumerate(species, 1):
        place = files[rng.choices((0, 1, 2), (7, 1, 2))[0]]
        place["images"].append({"id": image, "file_name": f"{image:012d}.jpg", "width": 640, "height": 480})
        place["annotations"].append(animal(rng, image, image, category))
        if image <= extra:
            place["annotations"].append(animal(rng, total + image, image, 1))
    return files


def write(root: Path, files: list[dict[str, Any]], crowd: list[int]) -> Path:
    """Lay documents and crowd list out as the reader expects."""
    (root / "annotations").mkdir(parents=True)
    for part, document in zip(("train", "val", "test"), files, strict=True):
        (root / "annotations" / f"ap10k-{part}-split1.json").write_text(json.dumps(document))
    (root / "is_crowd.txt").write_text("".join(f"{i:012d}\n" for i in crowd))
    return root


def shuffled(files: list[dict[str, Any]], seed: int = 1) -> list[dict[str, Any]]:
    """The same annotations in another order, also of keys, and spread over the files in another way."""
    rng = random.Random(seed)

    def mixed(items: list[Any]) -> list[Any]:
        return rng.sample(items, len(items))

    images = {i["id"]: i for f in files for i in f["images"]}
    new: list[dict[str, Any]] = [{"annotations": [], "images": [], "categories": mixed(CATEGORIES)} for _ in range(3)]
    home = {i: rng.choice(new) for i in images}
    for i in mixed(list(images)):
        home[i]["images"].append(dict(mixed(list(images[i].items()))))
    for a in mixed([a for f in files for a in f["annotations"]]):
        home[a["image_id"]]["annotations"].append(dict(mixed(list(a.items()))))
    return new
