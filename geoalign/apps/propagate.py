"""One annotated picture to a folder of them: labels to correct by hand, and to train on."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from geoalign.apps.inputs import Align
from geoalign.apps.matcher import Answer, ImageMatcher, View
from geoalign.apps.points import Points
from geoalign.data.readers.folder import SUFFIXES
from geoalign.data.records import DataError
from geoalign.draw.points import draw_points
from geoalign.geometry import UPRIGHT

COLUMNS = ("image", "keypoint", "x", "y", "visible", "category", "score", "pose")
SHEET = 24
"""Pictures on the contact sheet."""


class Labelled(NamedTuple):
    """A picture of the folder with its points."""

    name: str  # relative to the folder
    size: tuple[int, int]  # (h, w) of the picture
    small: Image.Image  # for the contact sheet
    answer: Answer


class Task(NamedTuple):
    """The annotated picture, its file and points, and how to match them; pairs are of point numbers."""

    source: View
    path: Path
    points: Points
    align: Align = "off"
    mirror_pairs: Sequence[tuple[int, int]] = ()


def labelled(matcher: ImageMatcher, task: Task, folder: Path) -> tuple[list[Labelled], list[str]]:
    """Every picture of the folder with the source's points, and what was skipped and why.

    The source itself, where it lies in the folder, keeps the points that were given.
    """
    files = picture_files(folder)
    found, skipped = list[Labelled](), list[str]()
    for file in tqdm(files, desc="pictures", disable=len(files) < 3):
        name = file.relative_to(folder).as_posix()
        try:
            target = matcher.view(file)
            same = file.resolve() == task.path.resolve()
            answer = _given(task.points) if same else _matched(matcher, task, target)
        except DataError as error:
            skipped.append(str(error))
            continue
        small = target.picture.copy()
        small.thumbnail((420, 300))
        found.append(Labelled(name, target.size, small, answer))
    if not found:
        raise ValueError(f"no picture of {folder} can be read: " + "; ".join(skipped))
    return found, skipped


def picture_files(folder: Path) -> list[Path]:
    """Files below the folder that are named as pictures, sorted; hidden ones are left out."""
    if not folder.is_dir():
        raise DataError.at(folder, "folder", "a folder of pictures", "no such folder", "correct the path")
    files = [p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()]
    kept = sorted(p for p in files if not any(part.startswith(".") for part in p.relative_to(folder).parts))
    if not kept:
        raise DataError.at(folder, "pictures", f"files of {', '.join(SUFFIXES)}", "none", "correct the path")
    return kept


def write_all(
    found: Sequence[Labelled], names: Sequence[str], out: Path, category: str, folder: Path
) -> tuple[Path, Path, Path]:
    """The csv, the COCO json beside it, and the contact sheet; the paths of all three."""
    out.parent.mkdir(parents=True, exist_ok=True)
    json_path, sheet = out.with_suffix(".json"), out.with_name(f".{out.stem}-sheet.png")
    if out.resolve().parent != folder.resolve():
        sheet = out.with_name(f"{out.stem}-sheet.png")  # inside the folder it must not pass for one of its pictures
    write_csv(found, names, out, category)
    json_path.write_text(json.dumps(coco(found, names, category)), encoding="utf-8")
    contact_sheet(found[:SHEET], names).save(sheet)
    return out, json_path, sheet


def write_csv(found: Sequence[Labelled], names: Sequence[str], path: Path, category: str) -> None:
    """One row per point, as ``data=folder`` reads it; set ``visible`` to 0 where a point cannot be seen."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for label in found:
            for name, (x, y), score in zip(names, label.answer.xy_px, label.answer.score, strict=True):
                place = (f"{x:.1f}", f"{y:.1f}")
                writer.writerow((label.name, name, *place, 1, category, f"{score:.3f}", label.answer.pose))


def coco(found: Sequence[Labelled], names: Sequence[str], category: str) -> dict[str, Any]:
    """COCO keypoints: every point labelled and visible (2), the box around them."""
    images = [
        {"id": i, "file_name": label.name, "height": label.size[0], "width": label.size[1]}
        for i, label in enumerate(found, 1)
    ]
    kind = {"id": 1, "name": category, "supercategory": "object", "keypoints": list(names), "skeleton": []}
    return {"images": images, "annotations": [_annotation(i, label) for i, label in enumerate(found, 1)],
            "categories": [kind]}  # fmt: skip


def contact_sheet(found: Sequence[Labelled], names: Sequence[str], columns: int = 4) -> Image.Image:
    """Small pictures with their points."""
    tiles = [
        draw_points(label.small, label.answer.xy_px * (label.small.width / label.size[1]), names) for label in found
    ]
    wide, high = max(t.width for t in tiles) + 8, max(t.height for t in tiles) + 8
    rows = -(-len(tiles) // columns)
    page = Image.new("RGB", (wide * min(columns, len(tiles)), high * rows), "white")
    for at, tile in enumerate(tiles):
        page.paste(tile, (at % columns * wide, at // columns * high))
    return page


def _matched(matcher: ImageMatcher, task: Task, target: View) -> Answer:
    return matcher.match(task.source, target, task.points.xy_px, task.align, task.mirror_pairs)


def _given(points: Points) -> Answer:
    return Answer(points.xy_px.astype(np.float32), np.ones(len(points.names), np.float32), UPRIGHT)


def _annotation(number: int, label: Labelled) -> dict[str, Any]:
    xy = label.answer.xy_px.astype(float)
    low, high = xy.min(0), np.maximum(xy.max(0), xy.min(0) + 1)
    flat = [v for x, y in xy.tolist() for v in (round(x, 1), round(y, 1), 2)]
    box = [round(v, 1) for v in (*low.tolist(), *(high - low).tolist())]
    return {
        **{"id": number, "image_id": number, "category_id": 1, "iscrowd": 0},
        **{"keypoints": flat, "num_keypoints": len(xy), "bbox": box, "area": round(box[2] * box[3], 1)},
        "score": round(float(label.answer.score.mean()), 4),
    }
