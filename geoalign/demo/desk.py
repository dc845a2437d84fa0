"""What the web page remembers: opened pictures by their content, with descriptors, and one matcher per setting."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import RLock
from typing import NamedTuple

import numpy as np
from PIL import Image

from geoalign.apps.inputs import Align
from geoalign.apps.matcher import Answer, Field, ImageMatcher, Picture
from geoalign.data.images import MAX_PIXELS, MAX_SIDE, open_rgb
from geoalign.data.records import DataError
from geoalign.demo.pictures import shown
from geoalign.matching.transfer import Readout
from geoalign.refiner import Identity

BUDGET = 1_000_000_000
"""Bytes of pictures and descriptors that are kept; the two used last are kept whatever they take."""

FAULTS = {
    "file": "is not a picture that can be read; JPEG, PNG, WebP, GIF, BMP and TIFF can",
    "empty": "is empty (0 bytes)",
    "size": f"has too many pixels; at most {MAX_SIDE:,} a side and {MAX_PIXELS // 10**6} million in all",
    "pixels": "is damaged or not complete",
    "mode": "holds values that are no 8- or 16-bit colours; convert it",
    "exif": "has a broken EXIF block; remove it",
}
"""What to say of a picture by the field of its DataError: its own text names files of this machine."""


class Settings(NamedTuple):
    """What the page's switches say."""

    align: Align = "off"
    readout: Readout = "window"
    refined: bool = True
    heat: bool = True


class Pair(NamedTuple):
    """Keys of two pictures on the desk, and points ``(x, y)`` in px of the source."""

    source: str = ""
    target: str = ""
    points: tuple[tuple[float, float], ...] = ()


class Found(NamedTuple):
    """An answer for every point, and the last point's similarity ``(g g)`` over the target's frame."""

    answer: Answer
    heat: np.ndarray | None


@dataclass
class Kept:
    """A picture on the desk: its file's name, itself, small for the page, and views by whether they are refined."""

    name: str
    picture: Image.Image
    small: Image.Image
    views: dict[bool, Picture] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Memory it takes."""
        maps = sum(bank.nbytes for view in self.views.values() for bank in view.banks.values())
        return 3 * self.picture.width * self.picture.height + maps


class Desk:
    """Opens pictures once and matches them under any settings; safe to call from several threads."""

    def __init__(self, matcher: ImageMatcher, budget: int = BUDGET) -> None:
        self.matcher, self.budget = matcher, budget
        self.has_refiner = not isinstance(matcher.refiner, Identity)
        self._matchers = dict[tuple[Readout, bool], ImageMatcher]()
        self._kept = OrderedDict[str, Kept]()
        self._lock = RLock()

    def open(self, path: Path, name: str = "") -> str:
        """The picture's key; the same content is opened once. Raises ValueError with words for people."""
        content, name = path.read_bytes(), name or path.name
        key = hashlib.sha256(content).hexdigest()
        with self._lock:
            if key not in self._kept:
                picture = _opened(path, len(content), name)
                self._kept[key] = Kept(name, picture, shown(picture))
            self._view(key, self.has_refiner)
        return key

    def kept(self, key: str) -> Kept:
        """A picture by its key; raises ValueError where it had to make room for others."""
        with self._lock:
            if key not in self._kept:
                raise ValueError("A picture is no longer in memory; load it again.")
            self._kept.move_to_end(key)
            return self._kept[key]

    def match(self, pair: Pair, settings: Settings) -> Found:
        """The pair's points in the target, the chosen pose, and the last point's similarity."""
        with self._lock:
            matcher, views = self._ready(pair, settings)
            answer = matcher.match(*views, np.reshape(pair.points, (-1, 2)), settings.align)
            if not pair.points:
                return Found(answer, None)
            return Found(answer, matcher.similarity(*views, pair.points[-1], answer.pose))

    def dense(self, pair: Pair, settings: Settings) -> tuple[Field, Field]:
        """A match for every cell of the source, and the place in the source of every cell of the target."""
        with self._lock:
            matcher, views = self._ready(pair, settings)
            there = matcher.dense(*views, align=settings.align)
            return there, matcher.dense_back(*views, there.pose)

    def _ready(self, pair: Pair, settings: Settings) -> tuple[ImageMatcher, tuple[Picture, Picture]]:
        refined = settings.refined and self.has_refiner
        views = self._view(pair.source, refined), self._view(pair.target, refined)
        self._make_room(len({pair.source, pair.target}))
        return self._matcher(settings.readout, refined), views

    def _view(self, key: str, refined: bool) -> Picture:
        kept = self.kept(key)
        if refined not in kept.views:
            kept.views[refined] = Picture(kept.picture)
            self._matcher(self.matcher.matcher.readout, refined).features(kept.views[refined])
        return kept.views[refined]

    def _matcher(self, readout: Readout, refined: bool) -> ImageMatcher:
        if (readout, refined) not in self._matchers:
            own = self.matcher
            plain = Identity(own.backbone.channels, own.backbone.grid, own.backbone.groups)
            settings = replace(own.matcher, readout=readout)
            made = ImageMatcher(own.backbone, own.refiner if refined else plain, settings, own.device)
            self._matchers[readout, refined] = made
        return self._matchers[readout, refined]

    def _make_room(self, wanted: int) -> None:
        """Forgets what was used longest ago, but not the ``wanted`` used last."""
        while len(self._kept) > wanted and sum(kept.bytes for kept in self._kept.values()) > self.budget:
            self._kept.popitem(last=False)


def _opened(path: Path, length: int, name: str) -> Image.Image:
    if not length:
        raise ValueError(f"{name} {FAULTS['empty']}.")
    try:
        return open_rgb(path, upright=True)
    except DataError as error:
        raise ValueError(f"{name} {FAULTS.get(error.field, FAULTS['file'])}.") from error
