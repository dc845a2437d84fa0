"""What people type on the web page: places, boxes and mirror pairs; what cannot be read is said in words."""

from __future__ import annotations

from collections.abc import Sequence

from geoalign.apps.inputs import BoxPx, box_on
from geoalign.demo.pair import Place

JOINTS = "-/=:"
"""Signs between the two names of a mirror pair; a name may hold them too."""


def place(text: str, size: tuple[int, int]) -> Place:
    """``x, y`` on a picture of ``size = (h, w)``.

    >>> place("120, 85", (100, 200))
    (120.0, 85.0)
    """
    x, y = _numbers(text, 2, "A place is x, y in px, such as 120, 85")
    if not (0 <= x <= size[1] and 0 <= y <= size[0]):
        raise ValueError(f"{x:g}, {y:g} lies outside the picture of {size[1]} x {size[0]} px.")
    return x, y


def box(text: str, size: tuple[int, int]) -> BoxPx | None:
    """``x1, y1, x2, y2``, or None for no text."""
    if not text.strip():
        return None
    x1, y1, x2, y2 = _numbers(text, 4, "A box is x1, y1, x2, y2 in px, such as 40, 30, 200, 150")
    return box_on((x1, y1, x2, y2), size)


def mirror_pairs(text: str, names: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of numbers of points that ``text`` calls each other's mirror image, by name.

    >>> mirror_pairs("left eye - right eye, 3-4", ["left eye", "right eye", "3", "4"])
    [(0, 1), (2, 3)]
    """
    found = list[tuple[int, int]]()
    for part in filter(str.strip, text.split(",")):
        cuts = [(part[:at].strip(), part[at + 1 :].strip()) for at, sign in enumerate(part) if sign in JOINTS]
        known = [(a, b) for a, b in cuts if a in names and b in names]
        if not known:
            raise ValueError(f"Mirror pairs are points' names such as 1-2, 3-4; {part.strip()} names no two of them.")
        pair = names.index(known[0][0]), names.index(known[0][1])
        if pair[0] == pair[1] or set(pair) & {number for other in found for number in other}:
            raise ValueError(f"{part.strip()}: a point has one mirror image, which is another point.")
        found.append(pair)
    return found


def _numbers(text: str, count: int, wanted: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.replace(";", ",").split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count or not all(abs(number) < 1e9 for number in numbers):
        raise ValueError(f"{wanted}; got {text.strip() or 'nothing'}.")
    return numbers
