"""Matches of one pair with the animal's own left and right told apart, by colour and by letter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from geoalign.draw.matches import Panel, laid_out
from geoalign.draw.text import font, write

SIDES = (("", "#f4f4f4"), ("L", "#3d8bff"), ("R", "#ff9a1f"))
"""Letter and colour of neutral, left and right points, by a mirror table's ``side``."""
WRONG = "#e5132b"
SIDE, EDGE, GAP, LINE, FINE = 360, 4, 12, 26, 3


def draw_sides(columns: Mapping[str, Sequence[tuple[Panel, Sequence[int]]]]) -> Image.Image:
    """A column per way of matching, a row per pair; each panel with the side (0, 1 or 2) of every point.

    A disc on the target has the letter and colour of the *source's* point; where it is wrong it has a red rim, and a
    white line leads to where that point is.
    """
    drawn = {name: [_panel(*one) for one in panels] for name, panels in columns.items()}
    rows = [max(picture.height for picture in row) + GAP for row in zip(*drawn.values(), strict=True)]
    width = len(drawn) * (2 * SIDE + GAP) - GAP
    page = Image.new("RGB", (width, LINE + sum(rows) - GAP + LINE), "white")
    draw = ImageDraw.Draw(page)
    for column, (name, pictures) in enumerate(drawn.items()):
        left, top = column * (2 * SIDE + GAP), LINE
        write(draw, (left + SIDE, LINE / 2), name, 16)
        for height, picture in zip(rows, pictures, strict=True):
            page.paste(picture, (left, top))
            top += height
    page.paste(_legend(width), (0, page.height - LINE))
    return page


def _panel(panel: Panel, sides: Sequence[int]) -> Image.Image:
    page, (starts, ends, truths) = laid_out(panel, SIDE * FINE, EDGE * FINE)
    draw = ImageDraw.Draw(page, "RGBA")
    right = [verdict == "correct" for verdict in panel.verdicts]
    for end, truth, good in zip(ends, truths, right, strict=True):
        if not good:
            draw.line([*end, *truth], fill="black", width=4 * FINE)
            draw.line([*end, *truth], fill="white", width=2 * FINE)
    order = np.argsort(right, kind="stable")[::-1]  # what is wrong lies on top
    for at in order:
        _disc(draw, starts[at], sides[at])
        _disc(draw, ends[at], sides[at], None if right[at] else WRONG)
    return page.reduce(FINE)


def _disc(draw: ImageDraw.ImageDraw, xy: np.ndarray, side: int, rim: str | None = None) -> None:
    (x, y), (letter, colour) = (float(v) for v in xy), SIDES[side]
    for radius, fill in ((8.5, rim or "#202020"), (6.3 if rim else 7.6, colour)):
        r = radius * FINE
        draw.ellipse([x - r, y - r, x + r, y + r], fill=fill)
    draw.text((x, y), letter, fill="black", font=font(10 * FINE), anchor="mm")


def _legend(width: int) -> Image.Image:
    strip = Image.new("RGB", (width * FINE, LINE * FINE), "white")
    draw, middle = ImageDraw.Draw(strip), LINE * FINE / 2
    entries = (
        (1, None, "the animal's own left"), (2, None, "its right"), (0, None, "neither"),
        (1, WRONG, "wrong: the line leads to the true point"),
    )  # fmt: skip
    long = [font(13 * FINE).getlength(text) + 44 * FINE for *_, text in entries]
    x = (width * FINE - sum(long)) / 2
    for (side, rim, text), length in zip(entries, long, strict=True):
        _disc(draw, np.array([x + 10 * FINE, middle]), side, rim)
        write(draw, (x + 24 * FINE, middle), text, 13 * FINE, "lm")
        x += length
    return strip.reduce(FINE)
