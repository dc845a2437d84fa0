"""One annotated picture to a folder of them: labels to correct by hand, and to train on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from geoalign.apps.inputs import Align
from geoalign.apps.label_files import Labels, coco, write_csv
from geoalign.apps.matcher import ImageMatcher
from geoalign.apps.picture import Answer, Picture
from geoalign.apps.points import Points
from geoalign.data.readers.folder import image_files
from geoalign.data.records import DataError
from geoalign.draw.points import draw_points
from geoalign.files import replacing
from geoalign.geometry import UPRIGHT

SHEET = 24
"""Pictures on the contact sheet."""


class Labelled(NamedTuple):
    """A picture of the folder with its points."""

    name: str  # relative to the folder
    size: tuple[int, int]  # (h, w) of the picture
    small: Image.Image  # for the contact sheet
    answer: Answer


def label_files(out: Path, folder: Path) -> tuple[Path, Path, Path]:
    """The csv ``out``, the COCO json and the contact sheet beside it; ValueError for what is not named as a csv."""
    if out.suffix.lower() != ".csv":
        raise ValueError(f"{out}: expected the name of a csv file, got {out.suffix or 'no suffix'}; end it in .csv")
    # Inside the folder the sheet must not pass for one of its pictures; hidden files are none.
    dot = "." if out.resolve().is_relative_to(folder.resolve()) else ""
    return out, out.with_suffix(".json"), out.with_name(f"{dot}{out.stem}-sheet.png")


def label_folder(
    matcher: ImageMatcher,
    source: Picture,
    points: Points,
    folder: Path,
    align: Align = "off",
    mirror_pairs: Sequence[tuple[int, int]] = (),
    source_path: Path | None = None,
) -> tuple[list[Labelled], list[str]]:
    """Every picture of the folder with the source's points, and a line on each that was skipped.

    The source itself, where ``source_path`` lies in the folder, keeps the points that were given. Raises ValueError
    where no picture can be read.
    """
    files, labels, skipped = image_files(folder), list[Labelled](), list[str]()
    sure = np.ones(len(points.names), np.float32)
    given = Answer(points.xy_px.astype(np.float32), sure, UPRIGHT, sure, sure > 0)
    for file in tqdm(files, desc="pictures", disable=len(files) < 3):
        try:
            name = _name(file, folder)
            target = matcher.picture(file)
            is_source = source_path is not None and source_path.exists() and file.samefile(source_path)
            answer = given if is_source else matcher.match(source, target, points.xy_px, align, mirror_pairs)
        except DataError as error:
            skipped.append(str(error))
            continue
        small = target.image.copy()
        small.thumbnail((420, 300))
        labels.append(Labelled(name, target.size, small, answer))
    if not labels:
        raise ValueError(f"no picture of {folder} can be read: " + "; ".join(skipped))
    return labels, skipped


def write_labels(
    labels: Sequence[Labelled], names: Sequence[str], files: tuple[Path, Path, Path], category: str
) -> None:
    """All :func:`label_files`, or none where one cannot be written.

    ``data=folder`` reads them; set ``visible`` to 0 in the csv where a point cannot be seen.
    """
    own = [Labels(one.name, one.size, _places(one, names), category) for one in labels]
    with replacing(files[0]) as table, replacing(files[1]) as document, replacing(files[2]) as sheet:
        write_csv(own, table, _sure(labels))
        document.write_text(json.dumps(_scored(coco(own), labels)), encoding="utf-8")
        contact_sheet(labels[:SHEET], names).save(sheet, format="PNG")


def _places(label: Labelled, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Every point, also where its confidence is low: that column says where to look first, a person decides."""
    return {name: (x, y) for name, (x, y) in zip(names, label.answer.xy_px.astype(float).tolist(), strict=True)}


def _sure(labels: Sequence[Labelled]) -> dict[str, Sequence[object]]:
    """Columns of the csv beside those of all labels: a value for each point of each picture."""
    score, confidence = (
        [f"{value:.3f}" for one in labels for value in getattr(one.answer, name)] for name in ("score", "confidence")
    )
    return {
        "score": score,
        "confidence": confidence,
        "pose": [one.answer.pose for one in labels for _ in one.answer.score],
    }


def _scored(document: dict[str, Any], labels: Sequence[Labelled]) -> dict[str, Any]:
    """COCO keypoints with the mean score of every annotation."""
    for entry, one in zip(document["annotations"], labels, strict=True):
        entry["score"] = round(float(one.answer.score.mean()), 4)
    return document


def contact_sheet(labels: Sequence[Labelled], names: Sequence[str], columns: int = 4) -> Image.Image:
    """Small pictures with their points, ``columns`` in a row."""
    tiles = [
        draw_points(
            one.small,
            one.answer.xy_px * (one.small.width / one.size[1]),
            names,
            confidence=one.answer.confidence,
            visible=one.answer.visible,
        )
        for one in labels
    ]
    wide, high = (max(sides) + 8 for sides in zip(*(tile.size for tile in tiles), strict=True))
    page = Image.new("RGB", (wide * min(columns, len(tiles)), high * -(-len(tiles) // columns)), "white")
    for i, tile in enumerate(tiles):
        page.paste(tile, (i % columns * wide, i // columns * high))
    return page


def _name(file: Path, folder: Path) -> str:
    """How the labels call a picture: what their reader takes."""
    name = file.relative_to(folder).as_posix()
    if any(c == "\\" or ord(c) < 32 or 0xD800 <= ord(c) <= 0xDFFF for c in name):
        raise DataError.at(file, "name", "UTF-8 without backslashes and control characters", name, "rename the file")
    return name
