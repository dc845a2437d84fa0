"""Pictures to try the web page with: synthetic ones, rendered when it first starts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from geoalign.data.images import open_rgb
from geoalign.files import replacing
from geoalign.synthetic.jobs import RECIPE, Job

SEED = 7


class Example(NamedTuple):
    """A caption and the files of a source and a target."""

    caption: str
    source: Path
    target: Path


PAIRS: tuple[tuple[str, tuple[str, int], tuple[str, int]], ...] = (
    ("cats, mirrored", ("cat", 1), ("cat", 4)),
    ("horse and cow", ("horse", 3), ("cow", 3)),
    ("cows, mirrored", ("cow", 0), ("cow", 5)),
    ("cars", ("car", 1), ("car", 3)),
)
"""Caption, and category and number of source and target."""


def default_cache() -> Path:
    """The cache that training uses too: ``cache`` in ``GEOALIGN_ROOT``, or in the current folder."""
    return Path(os.environ.get("GEOALIGN_ROOT", ".")) / "cache"


def examples(cache: Path) -> list[Example]:
    """The example pairs; pictures that the cache does not hold are rendered into it."""
    folder = cache / f"demo-{SEED}-{RECIPE}"
    folder.mkdir(parents=True, exist_ok=True)
    return [Example(caption, _file(folder, *source), _file(folder, *target)) for caption, source, target in PAIRS]


def thumbnail(example: Example, height: int = 96) -> Image.Image:
    """Both pictures side by side, cut to squares."""
    page = Image.new("RGB", (2 * height + 2, height), "white")
    for at, path in enumerate((example.source, example.target)):
        picture = open_rgb(path)
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        square = picture.crop((left, top, left + side, top + side))
        page.paste(square.resize((height, height), Image.Resampling.LANCZOS), (at * (height + 2), 0))
    return page


def _file(folder: Path, category: str, number: int) -> Path:
    path = folder / f"{category}{number}.png"
    if not path.is_file():
        with replacing(path) as partial:  # a page that starts meanwhile never reads half a file
            Image.fromarray(Job(SEED, "demo", category, number).picture().image).save(partial, format="PNG")
    return path
