"""What the web page remembers: each session's pictures with descriptors, and one matcher per setting."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from threading import RLock
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

import numpy as np
from jaxtyping import Float
from PIL import Image

from geoalign.apps.inputs import Align, BoxPx, LookMode
from geoalign.apps.matcher import ImageMatcher
from geoalign.apps.overlay import Overlay, overlay
from geoalign.apps.picture import Answer, Picture
from geoalign.data.images import MAX_PIXELS, MAX_SIDE, image_size, open_rgb
from geoalign.data.records import DataError
from geoalign.demo.pair import Pair
from geoalign.demo.pictures import shown
from geoalign.files import FileError, sha256
from geoalign.matching.transfer import Readout
from geoalign.refiner import Identity, Tail

BUDGET = 1_000_000_000
"""Bytes of pictures and descriptors that are kept in all; the two used last are kept whatever they take."""
SHARE = 600_000_000
"""The same of one session, so that it alone does not push out what the others use."""
PIXEL_BYTES = 4
"""Pillow keeps the three of RGB in four."""

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
    twice: bool = False
    zoom: float = 1
    subject: bool = True
    mirrors: str = ""

    @property
    def look(self) -> LookMode:
        """A second look takes the source as it is."""
        return "twice" if self.twice and self.align == "off" else "once"


class Forgotten(ValueError):
    """A picture had to make room for others."""


class Matched(NamedTuple):
    """An answer for every point, and the chosen point's similarity ``(g g)`` over the target's frame."""

    answer: Answer
    heat: Float[np.ndarray, "g g"] | None


@dataclass
class Kept:
    """A session's image: its file's name, itself, small for the page, and with descriptors, refined or not."""

    session: str
    name: str
    image: Image.Image
    small: Image.Image
    pictures: dict[bool, Picture] = field(default_factory=dict)
    boxed: dict[bool, Picture] = field(default_factory=dict)  # the same with the last box

    @property
    def bytes(self) -> int:
        """Memory it takes."""
        pixels = sum(image.width * image.height for image in (self.image, self.small))
        closer = [bank for picture in self.boxed.values() for bank in picture.closer.values()]
        maps = sum(picture.nbytes for picture in self.pictures.values()) + sum(bank.nbytes for bank in closer)
        return PIXEL_BYTES * pixels + maps


P = ParamSpec("P")
R = TypeVar("R")


def _alone(method: Callable[Concatenate[Desk, P], R]) -> Callable[Concatenate[Desk, P], R]:
    """Holds the desk's lock while the method runs."""

    @wraps(method)
    def alone(self: Desk, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.lock:
            return method(self, *args, **kwargs)

    return alone


class Desk:
    """Opens pictures once a session and matches them under any settings; safe to call from several threads.

    One thread at a time decodes and matches, so that what is held for a moment is that of one picture.
    """

    def __init__(self, matcher: ImageMatcher, budget: int = BUDGET, share: int = SHARE) -> None:
        self.matcher, self.budget, self.share = matcher, budget, share
        refiner = matcher.refiner
        self.has_refiner = refiner.trainable or not isinstance(refiner, (Identity, Tail))  # a tail as it was cut
        self._matchers = dict[tuple[Readout, bool], ImageMatcher]()
        self._kept = OrderedDict[str, Kept]()
        self.lock = RLock()

    @property
    @_alone
    def bytes(self) -> int:
        """Memory that all pictures take."""
        return sum(kept.bytes for kept in self._kept.values())

    @_alone
    def open(self, path: Path, name: str = "", session: str = "") -> str:
        """The picture's key; the same content is opened once a session, and has the name it was given last.

        Raises ValueError with words for people.
        """
        name = name or path.name
        with _in_words(name):
            if not path.stat().st_size:
                raise ValueError(f"{name} {FAULTS['empty']}.")
            key = f"{session}/{sha256(path)}"
            if key not in self._kept:
                height, width = image_size(path)
                self._make_room(session, 1, PIXEL_BYTES * height * width)  # before it takes any
                image = open_rgb(path, upright=True)
                self._kept[key] = Kept(session, name, image, shown(image))
            self._kept[key].name = name
            self._picture(key, self.has_refiner)
            self._make_room(session, 2)
        return key

    @_alone
    def forget(self, session: str) -> None:
        """Drops a session's pictures."""
        for key in [key for key, kept in self._kept.items() if kept.session == session]:
            del self._kept[key]

    @_alone
    def kept(self, key: str) -> Kept:
        """A picture by its key; raises Forgotten where it had to make room for others."""
        if key not in self._kept:
            raise Forgotten("A picture is no longer in memory; load it again.")
        self._kept.move_to_end(key)
        return self._kept[key]

    @_alone
    def match(self, pair: Pair, settings: Settings, mirror_pairs: Sequence[tuple[int, int]] = ()) -> Matched:
        """The pair's points in the target, the chosen pose, and the chosen point's similarity."""
        matcher, pictures = self._ready(pair, settings)
        points = np.reshape(pair.points, (-1, 2))
        answer = matcher.match(*pictures, points, settings.align, mirror_pairs, settings.look)
        heat = matcher.similarity(*pictures, pair.points[pair.chosen], answer.pose) if pair.points else None
        self._make_room(self._kept[pair.source].session, len({pair.source, pair.target}))
        return Matched(answer, heat)

    @_alone
    def dense(self, pair: Pair, settings: Settings) -> Overlay:
        """A match for every cell of the source, or of its subject, as pictures."""
        matcher, pictures = self._ready(pair, settings)
        small = self._kept[pair.source].small, self._kept[pair.target].small
        found = overlay(matcher, pictures, small, None, settings.subject, settings.align)
        self._make_room(self._kept[pair.source].session, len({pair.source, pair.target}))
        return found

    def _ready(self, pair: Pair, settings: Settings) -> tuple[ImageMatcher, tuple[Picture, Picture]]:
        refined = settings.refined and self.has_refiner
        source = self._within(pair.source, refined, pair.source_box)
        return self._matcher(settings.readout, refined), (source, self._within(pair.target, refined, pair.target_box))

    def _within(self, key: str, refined: bool, box_px: BoxPx | None) -> Picture:
        whole, kept = self._picture(key, refined), self._kept[key]
        if box_px is None:
            return whole
        if refined not in kept.boxed or kept.boxed[refined].box_px != box_px:
            kept.boxed[refined] = whole.within(box_px)
        return kept.boxed[refined]

    def _picture(self, key: str, refined: bool) -> Picture:
        kept = self.kept(key)
        if refined not in kept.pictures:
            kept.pictures[refined] = Picture(kept.image)
            self._matcher(self.matcher.matcher.readout, refined).features(kept.pictures[refined])
        return kept.pictures[refined]

    def _matcher(self, readout: Readout, refined: bool) -> ImageMatcher:
        if (readout, refined) not in self._matchers:
            own = self.matcher if refined else self.matcher.frozen()
            made = own.reading(replace(own.matcher, readout=readout))
            self._matchers[readout, refined] = made
        return self._matchers[readout, refined]

    def _make_room(self, session: str, wanted: int, more: int = 0) -> None:
        """Forgets what was used longest ago until ``more`` bytes fit too, but not the ``wanted`` used last."""
        for budget, owner in ((self.share, session), (self.budget, None)):
            keys = [key for key, kept in self._kept.items() if owner in (None, kept.session)]
            excess = sum(self._kept[key].bytes for key in keys) + more - budget
            for key in keys[:-wanted]:
                if excess > 0:
                    excess -= self._kept.pop(key).bytes


@contextmanager
def _in_words(name: str) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise ValueError(f"{name} {FAULTS.get(error.field, FAULTS['file'])}.") from error
    except (FileError, OSError) as error:
        raise ValueError(f"{name} {FAULTS['file']}.") from error
