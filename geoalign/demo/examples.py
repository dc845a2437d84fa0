"""Pictures to try the web page with: synthetic ones, rendered when it first starts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps

from geoalign.data.images import open_rgb
from geoalign.data.readers.folder import image_files
from geoalign.data.records import DataError
from geoalign.files import replacing
from geoalign.synthetic.jobs import RECIPE, Job

SEED = 7


MOST_PHOTOGRAPHS = 100
"""Of a folder that are offered."""


class Example(NamedTuple):
    """A caption and the files of a source and a target, or of one picture that is called ``name``."""

    caption: str
    source: Path
    target: Path | None = None
    name: str = ""


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


def photographs(folder: Path) -> list[Example]:
    """A folder's own pictures, one by one, called as files of labels call them; DataError where it holds none."""
    names = [(path, path.relative_to(folder).as_posix()) for path in image_files(folder)[:MOST_PHOTOGRAPHS]]
    return [Example(name, path, None, name) for path, name in names]


def thumbnail(example: Example, height: int = 96) -> Image.Image:
    """Its pictures side by side, cut to squares; black where one cannot be read."""
    paths = [path for path in (example.source, example.target) if path is not None]
    page = Image.new("RGB", ((height + 2) * len(paths) - 2, height), "white")
    for at, path in enumerate(paths):
        try:
            square = ImageOps.fit(open_rgb(path, upright=True), (height, height))
        except DataError:
            square = Image.new("RGB", (height, height))
        page.paste(square, (at * (height + 2), 0))
    return page


def _file(folder: Path, category: str, number: int) -> Path:
    path = folder / f"{category}{number}.png"
    if not path.is_file():
        with replacing(path) as partial:  # a page that starts meanwhile never reads half a file
            Image.fromarray(Job(SEED, "demo", category, number).picture().image).save(partial, format="PNG")
    return path
