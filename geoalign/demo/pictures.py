"""Pictures and files of the web page: pure functions of pictures, points and answers."""

from __future__ import annotations

import csv
import json
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, Real
from PIL import Image, ImageDraw

from geoalign.apps.matcher import Answer
from geoalign.apps.points import match_rows
from geoalign.draw.canvas import Colour, side_by_side
from geoalign.draw.heatmap import draw_heatmap
from geoalign.draw.text import font

SHOWN_PX = 640
"""Longer side of every picture on the page, small ones enlarged: the browser tells clicks in these pixels."""

PALETTE: tuple[Colour, ...] = (
    (230, 75, 60), (52, 152, 219), (46, 184, 114), (241, 180, 40), (155, 89, 200), (20, 190, 190), (240, 120, 180),
    (140, 200, 60),
)  # fmt: skip
"""Colours of the points in their order, then from the start again."""

FINE = 4  # marks are drawn this much larger and scaled down: Pillow draws without smooth edges


def shown(picture: Image.Image, longest: int = SHOWN_PX) -> Image.Image:
    """The picture with its longer side ``longest`` px.

    >>> shown(Image.new("RGB", (3, 1))).size
    (640, 213)
    """
    scale = longest / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def mark(picture: Image.Image, xy_px: Real[np.ndarray, "n 2"]) -> Image.Image:
    """A copy with numbered points in px of the picture; the last one is ringed."""
    page = picture.copy()
    for i, (x, y) in enumerate(np.asarray(xy_px, float).reshape(-1, 2)):
        sprite = _sprite(PALETTE[i % len(PALETTE)], str(i + 1), i == len(xy_px) - 1)
        page.paste(sprite, (round(x) - sprite.width // 2, round(y) - sprite.height // 2), sprite)
    return page


def heated(picture: Image.Image, heat: Float[np.ndarray, "g g"] | None) -> Image.Image:
    """The picture under a similarity map of its frame, or as it is."""
    return picture if heat is None else draw_heatmap(picture, heat)


def match_page(
    source: Image.Image,
    target: Image.Image,
    src_xy_px: Float[np.ndarray, "n 2"],
    trg_xy_px: Float[np.ndarray, "n 2"],
) -> Image.Image:
    """Both pictures side by side with their numbered points, in px of each."""
    return side_by_side([mark(source, src_xy_px), mark(target, trg_xy_px)], SHOWN_PX).page


def write_results(
    folder: Path, names: tuple[str, str], src_xy_px: Float[np.ndarray, "n 2"], answer: Answer
) -> tuple[Path, Path]:
    """``matches.json`` and ``matches.csv`` in original pixels; the paths of both."""
    rows = match_rows(range(1, len(src_xy_px) + 1), src_xy_px.round(2), answer)
    facts = {"source": names[0], "target": names[1], "pose": str(answer.pose), "matches": rows}
    json_path, csv_path = folder / "matches.json", folder / "matches.csv"
    json_path.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    with csv_path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("point", "source_x", "source_y", "target_x", "target_y", "score", "pose"))
        writer.writerows((r["point"], *r["source"], *r["target"], r["score"], facts["pose"]) for r in rows)
    return json_path, csv_path


@lru_cache(maxsize=256)
def _sprite(colour: Colour, label: str, last: bool) -> Image.Image:
    """A point's mark, smooth and with a transparent ground; its centre is the point."""
    side, dot, ring = 48 * FINE, 4 * FINE, 11 * FINE
    mark = Image.new("RGBA", (side, side))
    draw, centre = ImageDraw.Draw(mark), side // 2

    def disc(radius: float, **how: object) -> None:
        draw.ellipse([centre - radius, centre - radius, centre + radius, centre + radius], **how)  # type: ignore[arg-type]

    if last:
        disc(ring + FINE, outline=(0, 0, 0, 170), width=5 * FINE)
        disc(ring, outline=(255, 255, 255, 255), width=3 * FINE)
    disc(dot + 2.5 * FINE, fill=(0, 0, 0, 170))
    disc(dot + 1.5 * FINE, fill=(255, 255, 255, 255))
    disc(dot, fill=(*colour, 255))
    away = centre + (10 * FINE if last else 6 * FINE)
    draw.text(
        (away, side - away), label, fill="white", anchor="lb", font=font(15 * FINE),
        stroke_width=FINE, stroke_fill=(0, 0, 0, 255),
    )  # fmt: skip
    return mark.resize((48, 48), Image.Resampling.LANCZOS)
