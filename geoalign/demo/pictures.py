"""Pictures and files of the web page: pure functions of pictures, points and answers."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, Real
from PIL import Image, ImageDraw

from geoalign.apps.inputs import BoxPx
from geoalign.apps.picture import Answer
from geoalign.apps.points import match_rows
from geoalign.demo.pair import Mark
from geoalign.draw.canvas import Colour
from geoalign.draw.heatmap import draw_heatmap
from geoalign.draw.tags import place_tags
from geoalign.draw.text import font

SHOWN_PX = 640
"""Longer side of every picture on the page, small ones enlarged: the browser tells clicks in these pixels."""

PALETTE: tuple[Colour, ...] = (
    (230, 75, 60), (52, 152, 219), (46, 184, 114), (241, 180, 40), (155, 89, 200), (20, 190, 190), (240, 120, 180),
    (140, 200, 60),
)  # fmt: skip
"""Colours of the points in their order, then from the start again."""

RADIUS, LABEL_PX = 8.0, 15
"""Half the side of what a mark covers, and the height of its number."""
MORE = ("confidence", "visible", "state")

FINE = 4  # marks are drawn this much larger and scaled down: Pillow draws without smooth edges


def shown(picture: Image.Image, longest: int = SHOWN_PX) -> Image.Image:
    """The picture with its longer side ``longest`` px.

    >>> shown(Image.new("RGB", (3, 1))).size
    (640, 213)
    """
    scale = longest / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


class Shape(StrEnum):
    """What a mark says: found, found but unlikely, put by hand."""

    DOT, RING, SQUARE = "dot", "ring", "square"


def mark(
    picture: Image.Image,
    xy_px: Real[np.ndarray, "n 2"],
    chosen: int = -1,
    shapes: Sequence[Shape | None] | None = None,
) -> Image.Image:
    """A copy with numbered points in px of the picture, the ``chosen`` one ringed; those of no shape are left out."""
    page, xy = picture.copy(), np.asarray(xy_px, float).reshape(-1, 2)
    shapes = [Shape.DOT] * len(xy) if shapes is None else shapes
    near = [shape is not None and _near((x, y), page.size) for (x, y), shape in zip(xy, shapes, strict=True)]
    for i, (x, y) in enumerate(xy):
        if near[i]:
            sprite = _sprite(PALETTE[i % len(PALETTE)], shapes[i] or Shape.DOT, i == chosen)
            page.paste(sprite, (round(x) - sprite.width // 2, round(y) - sprite.height // 2), sprite)
    draw, type_face = ImageDraw.Draw(page), font(LABEL_PX)
    boxes = np.array([draw.textbbox((0, 0), str(i + 1), font=type_face, stroke_width=1) for i in range(len(xy))], float)
    sizes = (boxes[:, 2:] - boxes[:, :2]) * np.array(near)[:, None] if len(xy) else np.zeros((0, 2))
    for i, (x, y) in enumerate(place_tags(xy, sizes, RADIUS, page.size).tolist()):
        if near[i]:
            at = x - boxes[i, 0], y - boxes[i, 1]
            draw.text(at, str(i + 1), fill="white", font=type_face, stroke_width=1, stroke_fill="black")
    return page


def outlined(picture: Image.Image, box_px: BoxPx | None) -> Image.Image:
    """A copy with a box in px of the picture, seen on light and dark ground; or the picture as it is."""
    if box_px is None:
        return picture
    page = picture.copy()
    draw = ImageDraw.Draw(page)
    x1, y1, x2, y2 = (round(v) for v in box_px)
    for out, colour in ((1, "black"), (0, "white"), (-1, "black")):
        if x1 - out < x2 + out and y1 - out < y2 + out:
            draw.rectangle([x1 - out, y1 - out, x2 + out, y2 + out], outline=colour)
    return page


def heated(picture: Image.Image, heat: Float[np.ndarray, "g g"] | None, box_px: BoxPx | None = None) -> Image.Image:
    """The picture, or that part of a larger one, under a similarity map of its frame; or as it is."""
    return picture if heat is None else draw_heatmap(picture, heat, box_px=box_px)


def write_results(folder: Path, names: tuple[str, str], marks: Sequence[Mark], answer: Answer) -> tuple[Path, Path]:
    """``matches.json`` and ``matches.csv`` in original pixels; the paths of both.

    What a person said of a match stands in place of what was found: ``state`` says which.
    """
    found = np.array([m.fixed_px or xy for m, xy in zip(marks, answer.xy_px.tolist(), strict=True)], np.float32)
    src_xy_px = np.array([m.xy_px for m in marks], float).round(2)
    rows = match_rows([m.name for m in marks], src_xy_px, answer._replace(xy_px=found))
    for row, one in zip(rows, marks, strict=True):
        row["state"] = "hidden" if one.hidden else "corrected" if one.fixed_px else "found"
    facts = {"source": names[0], "target": names[1], "pose": str(answer.pose), "matches": rows}
    json_path, csv_path = folder / "matches.json", folder / "matches.csv"
    json_path.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    with csv_path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("point", "source_x", "source_y", "target_x", "target_y", "score", "pose", *MORE))
        for row in rows:
            numbers = (*row["source"], *row["target"], row["score"], facts["pose"])
            writer.writerow((row["point"], *numbers, *(row[name] for name in MORE)))
    return json_path, csv_path


def _near(xy: tuple[float, float], size: tuple[int, int]) -> bool:
    return bool(-RADIUS <= xy[0] <= size[0] + RADIUS and -RADIUS <= xy[1] <= size[1] + RADIUS)


@lru_cache(maxsize=256)
def _sprite(colour: Colour, shape: Shape, chosen: bool) -> Image.Image:
    """A point's mark, smooth and with a transparent ground; its centre is the point."""
    side, dot, ring = 48 * FINE, 4 * FINE, 11 * FINE
    mark = Image.new("RGBA", (side, side))
    draw, centre = ImageDraw.Draw(mark), side // 2
    form = draw.rectangle if shape == Shape.SQUARE else draw.ellipse

    def put(draw_it: Callable[..., None], radius: float, **how: object) -> None:
        draw_it([centre - radius, centre - radius, centre + radius, centre + radius], **how)

    if chosen:
        put(draw.ellipse, ring + FINE, outline=(0, 0, 0, 170), width=5 * FINE)
        put(draw.ellipse, ring, outline=(255, 255, 255, 255), width=3 * FINE)
    if shape == Shape.RING:
        put(form, dot + 3 * FINE, outline=(0, 0, 0, 170), width=5 * FINE)
        put(form, dot + 2 * FINE, outline=(*colour, 255), width=3 * FINE)
    else:
        put(form, dot + 2.5 * FINE, fill=(0, 0, 0, 170))
        put(form, dot + 1.5 * FINE, fill=(255, 255, 255, 255))
        put(form, dot, fill=(*colour, 255))
    return mark.resize((48, 48), Image.Resampling.LANCZOS)
