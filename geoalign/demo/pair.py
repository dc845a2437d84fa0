"""What one tab of the web page works on: two pictures, points and corrections, boxes, labels; every step back."""

from __future__ import annotations

from typing import Any, NamedTuple

from geoalign.apps.inputs import BoxPx
from geoalign.apps.label_files import Labels

MOST_POINTS = 50
MOST_STEPS = 60
"""Steps that can be undone."""

Place = tuple[float, float]


class Mark(NamedTuple):
    """A named point, px of the source, and what a person said of its match."""

    name: str
    xy_px: Place
    fixed_px: Place | None = None  # where it lies in the target, by hand
    hidden: bool = False  # the target does not show it


class Pair(NamedTuple):
    """Keys of two pictures on the desk, points and the chosen one, boxes ``x1 y1 x2 y2``, and labels kept so far."""

    source: str = ""
    target: str = ""
    marks: tuple[Mark, ...] = ()
    chosen: int = 0
    source_box: BoxPx | None = None
    target_box: BoxPx | None = None
    labels: tuple[tuple[str, Labels], ...] = ()  # with the picture's key
    past: tuple[Pair, ...] = ()

    @property
    def points(self) -> tuple[Place, ...]:
        """The points, in px of the source."""
        return tuple(mark.xy_px for mark in self.marks)

    @property
    def names(self) -> list[str]:
        """Of the points."""
        return [mark.name for mark in self.marks]

    def then(self, **changes: Any) -> Pair:
        """With changes that can be undone."""
        return self._replace(past=(*self.past, self._replace(past=()))[-MOST_STEPS:], **changes)

    def undone(self) -> Pair:
        """As before the last step; ValueError where there was none."""
        if not self.past:
            raise ValueError("There is nothing to undo.")
        return self.past[-1]._replace(past=self.past[:-1])


def with_picture(pair: Pair, role: str, key: str) -> Pair:
    """Another picture, or none: a new source has no points yet, and a new target none that were corrected."""
    if role == "source":
        return pair.then(source=key, marks=(), chosen=0, source_box=None)
    marks = tuple(Mark(mark.name, mark.xy_px) for mark in pair.marks)
    return pair.then(target=key, marks=marks, target_box=None)


def with_point(pair: Pair, xy_px: Place) -> Pair:
    """One more point of the source, chosen; ValueError where there are too many."""
    if len(pair.marks) >= MOST_POINTS:
        raise ValueError(f"{MOST_POINTS} points are the most; clear them first.")
    number = next(n for n in range(len(pair.marks) + 1, 2 * MOST_POINTS + 2) if str(n) not in pair.names)
    return pair.then(marks=(*pair.marks, Mark(str(number), xy_px)), chosen=len(pair.marks))


def chosen(pair: Pair) -> Mark:
    """The point that is chosen; ValueError where there is none."""
    if not pair.marks:
        raise ValueError("Click a point of the source first.")
    return pair.marks[pair.chosen]


def moved(pair: Pair, number: int, xy_px: Place) -> Pair:
    """A point of the source elsewhere: what was said of its match no longer holds."""
    return _with(pair, number, Mark(pair.marks[number].name, xy_px))


def corrected(pair: Pair, number: int, xy_px: Place) -> Pair:
    """A match elsewhere, by hand; ``number`` is then chosen."""
    return _with(pair, number, pair.marks[number]._replace(fixed_px=xy_px, hidden=False))


def hidden(pair: Pair) -> Pair:
    """The chosen point is not in the target, or is again as it was found."""
    mark = chosen(pair)
    return _with(pair, pair.chosen, mark._replace(hidden=not mark.hidden, fixed_px=None))


def renamed(pair: Pair, name: str) -> Pair:
    """The chosen point under another name; ValueError for none, or another's."""
    mark, name = chosen(pair), name.strip()
    if not name or any(ord(sign) < 32 for sign in name):
        raise ValueError("A name has at least one letter, and is one line.")
    if name != mark.name and name in pair.names:
        raise ValueError(f"Another point is called {name}; names are given once.")
    return pair if name == mark.name else _with(pair, pair.chosen, mark._replace(name=name))


def dropped(pair: Pair) -> Pair:
    """Without the chosen point."""
    chosen(pair)
    marks = pair.marks[: pair.chosen] + pair.marks[pair.chosen + 1 :]
    return pair.then(marks=marks, chosen=max(0, pair.chosen - 1))


def cleared(pair: Pair) -> Pair:
    """Without points and boxes; labels that were kept stay."""
    return pair.then(marks=(), chosen=0, source_box=None, target_box=None)


def _with(pair: Pair, number: int, mark: Mark) -> Pair:
    return pair.then(marks=(*pair.marks[:number], mark, *pair.marks[number + 1 :]), chosen=number)
