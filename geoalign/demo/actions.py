"""What happens on the web page: every event to what the page shows then, without a word of the page's library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from geoalign.demo.desk import Desk, Forgotten, Kept, Matched, Settings
from geoalign.demo.examples import Example
from geoalign.demo.gestures import stroke
from geoalign.demo.pair import Mark, Pair, Place, with_picture
from geoalign.demo.pictures import Shape, heated, mark, outlined
from geoalign.demo.text import Said, readout, table
from geoalign.demo.typed import mirror_pairs
from geoalign.demo.view import View, part, view

ROLES = ("source", "target")


class Shown(NamedTuple):
    """All that an event may change."""

    pair: Pair
    source: Image.Image | None
    target: Image.Image | None
    readout: str
    table: str


class Scene(NamedTuple):
    """A pair's pictures and answers, and how the page shows them."""

    kept: dict[str, Kept]
    views: dict[str, View]
    matched: Matched | None
    notes: tuple[str, ...]  # what the switches say that cannot be had

    def places(self, pair: Pair, role: str) -> np.ndarray:
        """Where the points lie in a picture: as given, found, or put by hand."""
        return effective(pair, self.matched) if role == "target" else np.reshape(pair.points, (-1, 2))


class Actions:
    """Events by name; each takes the pair that the browser shows and the switches, and returns what to show."""

    def __init__(self, desk: Desk, examples: Sequence[Example]) -> None:
        self.desk, self.examples = desk, examples

    def load(self, role: str, path: Path, name: str, pair: Pair, settings: Settings, session: str = "") -> Shown:
        """A picture in the place of ``source`` or ``target``; what cannot be read leaves all as it was."""
        return self.edit(pair, settings, lambda now: with_picture(now, role, self.desk.open(path, name, session)))

    def remove(self, role: str, pair: Pair, settings: Settings) -> Shown:
        """The source or the target taken away."""
        return self.edit(pair, settings, lambda now: with_picture(now, role, ""))

    def example(self, number: int, pair: Pair, settings: Settings) -> Shown:
        """One of the examples: both pictures, or one that takes the place that is free, else the target's."""
        example = self.examples[number]

        def opened(now: Pair) -> Pair:
            first = self.desk.open(example.source, example.name)
            if example.target is None:
                return with_picture(now, "target" if now.source else "source", first)
            both = with_picture(with_picture(now, "source", first), "target", self.desk.open(example.target))
            return both._replace(past=both.past[:-1])  # one step back, not two

        return self.edit(pair, settings, opened)

    def edit(self, pair: Pair, settings: Settings, change: Callable[[Pair], Pair]) -> Shown:
        """The pair after a change; what the change refuses is said, and leaves all as it was."""
        try:
            return self.show(change(pair), settings)
        except (ValueError, OSError) as error:
            return self.show(pair, settings, str(error))

    def touch(
        self, role: str, start: Sequence[float] | None, end: Sequence[float], pair: Pair, settings: Settings
    ) -> Shown:
        """A click (no ``start``) or a drag on a picture, told in px of the picture as it is shown."""

        def change(now: Pair) -> Pair:
            if not (now.source and now.target):
                raise ValueError("Load a target too, then click again." if now.source else "Load a source too.")
            scene = self.scene(now, settings)
            on_page = scene.views[role].shown(scene.places(now, role))
            done, image = stroke(on_page, start, end), scene.kept[role].image
            places = np.clip(scene.views[role].px(np.array(done.ends_px)), 0, image.size).tolist()
            return done.apply(now, role, [(x, y) for x, y in places], (image.height, image.width))

        return self.edit(pair, settings, change)

    def show(self, pair: Pair, settings: Settings, message: str = "") -> Shown:
        """The pair under the switches as they are."""
        try:
            scene = self.scene(pair, settings)
        except Forgotten as error:
            return Shown(
                Pair(labels=pair.labels), None, None, readout(Pair(), None, Said(str(error))), table(pair, None)
            )
        answer = scene.matched.answer if scene.matched else None
        source, target = (self.drawn(pair, role, scene, settings) for role in ROLES)
        said = readout(pair, answer, Said(message, scene.notes))
        return Shown(pair, source, target, said, table(pair, answer))

    def scene(self, pair: Pair, settings: Settings) -> Scene:
        """Pictures, answers and views; raises Forgotten where a picture had to make room."""
        keys, notes = {role: key for role, key in zip(ROLES, pair[:2], strict=True) if key}, list[str]()
        kept = {role: self.desk.kept(key) for role, key in keys.items()}
        matched = self._matched(pair, settings, notes) if len(kept) == 2 else None
        centres: dict[str, Place | None] = dict.fromkeys(ROLES)
        if matched and pair.marks:
            x, y = effective(pair, matched)[pair.chosen].tolist()
            centres = {"source": pair.marks[pair.chosen].xy_px, "target": (x, y)}
        views = {role: view(k.image, k.small, settings.zoom, centres[role]) for role, k in kept.items()}
        return Scene(kept, views, matched, tuple(notes))

    def _matched(self, pair: Pair, settings: Settings, notes: list[str]) -> Matched:
        pairs = list[tuple[int, int]]()
        try:
            pairs = mirror_pairs(settings.mirrors, pair.names)
        except ValueError as error:
            notes.append(str(error))
        if settings.twice and settings.align != "off":
            notes.append("The second look needs the source as it is; it is left out while other poses are tried.")
        matched = self.desk.match(pair, settings, pairs)
        if matched.answer.stepped_back:
            notes.append("The refiner is left out: it has not learned from pictures like these.")
        if matched.answer.pose.flip and pair.marks and len(pairs) * 2 < len(pair.marks):
            notes.append("Mirrored: left and right trade places. Name the points that are each other's mirror image.")
        return matched

    def drawn(self, pair: Pair, role: str, scene: Scene, settings: Settings) -> Image.Image | None:
        """The source or the target as the page shows it; None where it is not there."""
        if role not in scene.kept:
            return None
        kept, shows = scene.kept[role], scene.views[role]
        page = part(kept.image, kept.small, shows)
        box = pair.source_box if role == "source" else pair.target_box
        corners = None if box is None else shows.shown_box(box)
        if scene.matched is None or not pair.marks:
            return outlined(page, corners)
        if role == "target" and settings.heat:
            page = heated(page, scene.matched.heat, view(kept.image, kept.small).shown_box(shows.box_px))
        shapes = _shapes(pair.marks, scene.matched) if role == "target" else None
        return mark(outlined(page, corners), shows.shown(scene.places(pair, role)), pair.chosen, shapes)


def effective(pair: Pair, matched: Matched | None) -> np.ndarray:
    """Matches ``(n 2)`` in px of the target, those put by hand in place of those found."""
    found = matched.answer.xy_px.tolist() if matched else []
    places = [m.fixed_px or tuple(xy) for m, xy in zip(pair.marks, found, strict=bool(matched))]
    return np.reshape(np.array(places, float), (-1, 2))


def _shapes(marks: Sequence[Mark], matched: Matched) -> list[Shape | None]:
    seen = matched.answer.visible.tolist()
    return [
        None if one.hidden else Shape.SQUARE if one.fixed_px else Shape.DOT if visible else Shape.RING
        for one, visible in zip(marks, seen, strict=True)
    ]
