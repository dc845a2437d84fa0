"""Matches drawn on image pairs: correct green, wrong red, left/right confusions marked; Pillow alone is quickest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

COLOURS = {"correct": "#19a51b", "swapped": "#ff8c00", "near": "#d62728", "elsewhere": "#d62728"}
LABELS = {"correct": "correct", "swapped": "left/right or same-part confusion", "near": "wrong"}
SIDE = 280
"""Px of the page that a frame takes."""
GAP, LINE = 10, 20
SHARP = 2
"""Panels are drawn so many times larger and then reduced: smooth lines."""


class Panel(NamedTuple):
    """One drawn pair: frames, points in px of the frame, a verdict per point."""

    source: UInt8[np.ndarray, "s s 3"]
    target: UInt8[np.ndarray, "s s 3"]
    src_xy_px: Float[np.ndarray, "n 2"]
    predicted_px: Float[np.ndarray, "n 2"]
    true_px: Float[np.ndarray, "n 2"]
    verdicts: Sequence[str]
    title: str = ""


def draw_panel(panel: Panel) -> Image.Image:
    """Source left, target right; a line per match, a ring at the truth of every miss, a cross at confusions."""
    side = SIDE * SHARP
    page = Image.new("RGB", (2 * side, side))
    for at, frame in enumerate((panel.source, panel.target)):
        page.paste(Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC), (at * side, 0))
    draw, scale, shift = ImageDraw.Draw(page), side / panel.source.shape[1], np.array([side, 0])
    ends = panel.src_xy_px * scale, panel.predicted_px * scale + shift, panel.true_px * scale + shift
    for start, end, truth, verdict in zip(*ends, panel.verdicts, strict=True):
        draw.line([*start, *end], fill=COLOURS[verdict], width=3)
        _mark(draw, start, "correct", COLOURS[verdict])
        _mark(draw, end, verdict, COLOURS[verdict])
        if verdict != "correct":
            _ring(draw, truth, "white")
    return page.reduce(SHARP)


def save_panels(columns: Mapping[str, Sequence[Panel]], path: Path) -> None:
    """One column per name, one row per pair, a legend below; written as PNG."""
    rows = max(len(panels) for panels in columns.values())
    size = len(columns) * (2 * SIDE + GAP) + GAP, LINE + rows * (SIDE + LINE + GAP) + 2 * LINE
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    for column, (name, panels) in enumerate(columns.items()):
        left = GAP + column * (2 * SIDE + GAP)
        write(draw, (left + SIDE, LINE / 2 + 2), name, 14)
        for row, panel in enumerate(panels):
            top = LINE + row * (SIDE + LINE + GAP)
            write(draw, (left + SIDE, top + LINE / 2 + 2), panel.title, 11)
            page.paste(draw_panel(panel), (left, top + LINE))
    _legend(page, size[1] - LINE)
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path)


def write(
    draw: ImageDraw.ImageDraw, xy: tuple[int | float, int | float], text: str, size: int, anchor: str = "mm"
) -> None:
    """Black text on a page, centred by default."""
    draw.text(xy, text, fill="black", font=ImageFont.load_default(size), anchor=anchor)


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
        x += 50 + ImageFont.load_default(12 * SHARP).getlength(text) + 40
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
