"""Matches drawn on image pairs: correct green, wrong red, left/right confusions marked; Pillow alone is quickest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageOps

from geoalign.draw.text import font, write
from geoalign.geometry import FRAME_PX, Framing, unletterbox_points

COLOURS = {"correct": "#19a51b", "swapped": "#ff8c00", "near": "#d62728", "elsewhere": "#d62728"}
LABELS = {"correct": "correct", "swapped": "left/right or same-part confusion", "near": "wrong"}
SIDE = 280
"""Px of the page that a picture takes at most, either way."""
EDGE, GAP, LINE = 2, 10, 20
SHARP = 2
"""Panels are drawn so many times larger and then reduced: smooth lines."""


class Panel(NamedTuple):
    """One drawn pair: pictures without bars, of any size; points in px of their frame; verdicts per point."""

    source: UInt8[np.ndarray, "h w 3"]
    target: UInt8[np.ndarray, "hh ww 3"]
    src_xy_px: Float[np.ndarray, "n 2"]
    predicted_px: Float[np.ndarray, "n 2"]
    true_px: Float[np.ndarray, "n 2"]
    verdicts: Sequence[str]
    title: str = ""
    frame_px: int = FRAME_PX
    framing: Framing = "letterbox"


def draw_panel(panel: Panel) -> Image.Image:
    """Source left, target right; a line per match, a ring at the truth of every miss, a cross at confusions."""
    page, ends = laid_out(panel, SIDE * SHARP, EDGE * SHARP)
    draw = ImageDraw.Draw(page)
    for start, end, truth, verdict in zip(*ends, panel.verdicts, strict=True):
        draw.line([*start, *end], fill=COLOURS[verdict], width=3)
        _mark(draw, start, "correct", COLOURS[verdict])
        _mark(draw, end, verdict, COLOURS[verdict])
        if verdict != "correct":
            _ring(draw, truth, "white")
    return page.reduce(SHARP)


def laid_out(
    panel: Panel, side: int, edge: int
) -> tuple[Image.Image, tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n 2"], Float[np.ndarray, "n 2"]]]:
    """Both pictures on white, each at most ``side`` px with ``edge`` px beside it; points in px of it."""
    pictures = [
        ImageOps.contain(Image.fromarray(picture), (side - 2 * edge, side - 2 * edge), Image.Resampling.BICUBIC)
        for picture in (panel.source, panel.target)
    ]
    height = -(-max(picture.height for picture in pictures) // SHARP) * SHARP
    page = Image.new("RGB", (2 * side, height), "white")
    corners = [
        (at * side + (side - picture.width) // 2, (height - picture.height) // 2) for at, picture in enumerate(pictures)
    ]
    for picture, corner in zip(pictures, corners, strict=True):
        page.paste(picture, corner)

    def placed(xy_px: Float[np.ndarray, "n 2"], at: int) -> Float[np.ndarray, "n 2"]:
        size = pictures[at].height, pictures[at].width
        return unletterbox_points(xy_px, size, panel.frame_px, panel.framing) + np.array(corners[at])

    return page, (placed(panel.src_xy_px, 0), placed(panel.predicted_px, 1), placed(panel.true_px, 1))


def save_panels(columns: Mapping[str, Sequence[Panel]], path: Path) -> None:
    """One column per name, one row per pair, a legend below; written as PNG."""
    drawn = {name: [(panel.title, draw_panel(panel)) for panel in panels] for name, panels in columns.items()}
    lines = [row for row in zip_longest(*drawn.values()) if any(row)]
    heights = [LINE + GAP + max(picture.height for _, picture in filter(None, row)) for row in lines]
    size = len(columns) * (2 * SIDE + GAP) + GAP, LINE + sum(heights) + 2 * LINE
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    for column, name in enumerate(drawn):
        left, top = GAP + column * (2 * SIDE + GAP), LINE
        write(draw, (left + SIDE, LINE / 2 + 2), name, 14)
        for height, row in zip(heights, lines, strict=True):
            if row[column] is not None:
                title, picture = row[column]
                write(draw, (left + SIDE, top + LINE / 2 + 2), title, 11)
                page.paste(picture, (left, top + LINE))
            top += height
    _legend(page, size[1] - LINE)
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path)


def _legend(page: Image.Image, y: int) -> None:
    """One line in the middle; drawn large and reduced like the panels."""
    strip = Image.new("RGB", (page.width * SHARP, LINE * SHARP), "white")
    draw, middle, x = ImageDraw.Draw(strip), LINE * SHARP / 2, max(0.0, page.width - 560.0)
    for verdict, text in (*LABELS.items(), ("truth", "truth of a miss")):
        at = np.array([x + 20, middle])
        if verdict == "truth":
            _ring(draw, at, "grey")
        else:
            draw.line([x, middle, x + 40, middle], fill=COLOURS[verdict], width=SHARP)
            _mark(draw, at, verdict, COLOURS[verdict])
        write(draw, (x + 50, middle), text, 12 * SHARP, anchor="lm")
        x += 50 + font(12 * SHARP).getlength(text) + 40
    page.paste(strip.reduce(SHARP), (0, round(y - LINE / 2)))


def _mark(draw: ImageDraw.ImageDraw, xy: np.ndarray, verdict: str, colour: str) -> None:
    (x, y), r = xy, (5 if verdict == "swapped" else 2.5) * SHARP
    if verdict == "swapped":
        for tilt in (-1, 1):
            draw.line([x - r, y - tilt * r, x + r, y + tilt * r], fill=colour, width=3 * SHARP)
    else:
        draw.ellipse([x - r, y - r, x + r, y + r], fill=colour)


def _ring(draw: ImageDraw.ImageDraw, xy: np.ndarray, colour: str) -> None:
    (x, y), r = xy, 5 * SHARP
    draw.ellipse([x - r, y - r, x + r, y + r], outline=colour, width=round(1.5 * SHARP))
