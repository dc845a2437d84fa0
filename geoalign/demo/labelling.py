"""Labels that a tab collects: points of its pictures as a person left them."""

from __future__ import annotations

from collections.abc import Sequence

from geoalign.apps.label_files import Labels
from geoalign.demo.actions import Scene, effective
from geoalign.demo.pair import Pair, Place


def keep(pair: Pair, scene: Scene, category: str) -> Pair:
    """The pair's points as labels of both pictures, beside those that were kept before.

    A match that nobody corrected counts as it was found, unless it is unlikely: then it is no label. Raises ValueError
    where there is nothing to keep, or where two pictures have one name.
    """
    if not (scene.matched and pair.marks):
        raise ValueError("There is nothing to keep yet: load two pictures and click points.")
    category = category.strip() or "object"
    given: dict[str, Place | None] = {mark.name: mark.xy_px for mark in pair.marks}
    found = dict[str, Place | None]()
    likely = scene.matched.answer.visible.tolist()
    for mark, (x, y), is_likely in zip(pair.marks, effective(pair, scene.matched).tolist(), likely, strict=True):
        if mark.hidden or mark.fixed_px or is_likely:
            found[mark.name] = None if mark.hidden else (x, y)
    labels = dict(pair.labels)
    for role, key, points in (("source", pair.source, given), ("target", pair.target, found)):
        one = scene.kept[role]
        if any(other != key and known.image == one.name for other, known in labels.items()):
            raise ValueError(f"Two pictures are called {one.name}; labels tell them apart by name, so rename one.")
        before = dict(labels[key].points) if key in labels else {}
        size = one.image.height, one.image.width
        labels[key] = Labels(one.name, size, before | points, category)
    return pair.then(labels=tuple(labels.items()))


def forget(pair: Pair) -> Pair:
    """Without labels; ValueError where there are none."""
    if not pair.labels:
        raise ValueError("No labels were kept yet.")
    return pair.then(labels=())


def listed(pair: Pair) -> Sequence[Labels]:
    """The labels, in the order in which their pictures were first kept."""
    return [labels for _, labels in pair.labels]
