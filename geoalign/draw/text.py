"""Text on pictures, in one font that has the signs that are written: DejaVu Sans, which comes with matplotlib."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import ImageDraw, ImageFont


@cache
def font(size: float) -> ImageFont.FreeTypeFont:
    """The font at ``size`` px."""
    return ImageFont.truetype(str(_file()), size)


def missing_glyphs(text: str, path: str | Path | None = None) -> str:
    """The signs of a text that a font file (by default ours) would draw as a box.

    >>> missing_glyphs("a → b ✓"), missing_glyphs("羊 ok")
    ('', '羊')
    """
    known = _signs(str(path or _file()))
    return "".join(sign for sign in dict.fromkeys(text) if sign not in "\n\r" and ord(sign) not in known)


def write(
    draw: ImageDraw.ImageDraw, xy: tuple[int | float, int | float], text: str, size: float, anchor: str = "mm"
) -> None:
    """Black text on a page, centred by default."""
    draw.text(xy, text, fill="black", font=font(size), anchor=anchor)


@cache
def _file() -> Path:
    import matplotlib  # late: a second of imports

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@cache
def _signs(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(path).get_charmap())
