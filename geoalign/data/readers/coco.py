"""What files of COCO keypoints share: entries with ids, boxes with sides, points with visibility."""

from __future__ import annotations

from collections.abc import Iterator

from geoalign.data.readers.keypoints import Box, Point
from geoalign.data.validation import Fields


def coco_objects(document: Fields) -> Iterator[tuple[Fields, Fields, Fields]]:
    """Every annotation by id, with its image and its category.

    Raises:
        DataError: an id listed twice, or an image or category that the file does not list.
    """
    images, categories, annotations = (_by_id(document, key) for key in ("images", "categories", "annotations"))
    for _, item in sorted(annotations.items()):
        image, category = item.integer("image_id"), item.integer("category_id")
        if image not in images:
            raise item.fail("image_id", "an image the file lists", image)
        if category not in categories:
            raise item.fail("category_id", f"one of the file's {len(categories)} categories", category)
        yield item, images[image], categories[category]


def coco_box(item: Fields) -> Box:
    """``bbox`` (x, y, width, height in px) as corners; raises ``DataError`` where it has no extent."""
    x, y, w, h = item.numbers("bbox", 4)
    if w <= 0 or h <= 0:
        raise item.fail("bbox", "[x, y, w, h] with positive sides", [x, y, w, h])
    return x, y, x + w, y + h


def coco_points(item: Fields, count: int) -> list[Point | None]:
    """``keypoints`` (``count`` times x, y in px, visibility), None where visibility is 0; raises ``DataError``."""
    flat = item.numbers("keypoints", 3 * count)
    if not {0, 1, 2}.issuperset(flat[2::3]):
        raise item.fail("keypoints", "x, y and visibility 0, 1 or 2", flat[2::3])
    return [(x, y) if seen else None for x, y, seen in zip(flat[0::3], flat[1::3], flat[2::3], strict=True)]


def _by_id(document: Fields, key: str) -> dict[int, Fields]:
    entries: dict[int, Fields] = {}
    for at, entry in enumerate(document.items(key)):
        item = Fields(document.file, entry, f"{key}[{at}].", document.remedy)
        number = item.integer("id")
        if number in entries:
            raise item.fail("id", f"an id listed once in {key}", number)
        entries[number] = item
    return entries
