"""A contact sheet of synthetic images with their keypoints: ``python -m geoalign.synthetic.show OUT.png``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from geoalign.synthetic.jobs import Job
from geoalign.synthetic.picture import Picture
from geoalign.synthetic.species import CATEGORIES, symmetry

_COLOURS = {0: (255, 220, 0), 1: (0, 220, 255), 2: (255, 60, 60)}


def mark(picture: Picture, category: str, labels: bool = False, zoom: int = 1) -> Image.Image:
    """The image with its visible keypoints: left cyan, right red, neutral yellow."""
    image = Image.fromarray(picture.image)
    image = image.resize((image.width * zoom, image.height * zoom), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    facts = symmetry(category)
    draw.rectangle([zoom * v for v in picture.box_px], outline=(255, 255, 255))
    for name, side, (x, y), seen in zip(facts.names, facts.side, picture.xy_px * zoom, picture.visible, strict=True):
        if seen:
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=_COLOURS[side], outline=(0, 0, 0))
            if labels:
                draw.text((x + 4, y - 6), name.replace("left_", "L ").replace("right_", "R "), fill=_COLOURS[side])
    draw.text((4, 2), f"azimuth {picture.azimuth_id}", fill=(255, 255, 255))
    return image


def sheet(
    categories: Sequence[str] = CATEGORIES, columns: int = 6, seed: int = 0, labels: bool = False, zoom: int = 1
) -> Image.Image:
    """One row a category, the first test images of a seed."""
    cell = 324 * zoom
    page = Image.new("RGB", (columns * cell, len(categories) * cell), (40, 40, 40))
    for row, category in enumerate(categories):
        for column in range(columns):
            picture = Job(seed, "test", category, column).picture()
            page.paste(mark(picture, category, labels, zoom), (column * cell, row * cell))
    return page


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a contact sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--category", action="append", choices=CATEGORIES)
    parser.add_argument("--columns", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--zoom", type=int, default=1)
    parser.add_argument("--labels", action="store_true")
    given = parser.parse_args(arguments)
    page = sheet(given.category or CATEGORIES, given.columns, given.seed, given.labels, given.zoom)
    page.save(given.out)


if __name__ == "__main__":
    main()
