"""A click or a drag on a picture: which mark it takes hold of, and what it changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from geoalign.apps.inputs import box_on
from geoalign.demo.pair import Pair, Place, corrected, moved, with_point

GRAB_PX, MOVED_PX = 14.0, 6.0
"""On the page: so near a mark is on it, and so far is a drag."""


class Stroke(NamedTuple):
    """A click or drag as it is meant: the mark under its start, and its ends in px of the page."""

    mark: int | None
    ends_px: tuple[Place, ...]  # one of a click, two of a drag

    def apply(self, pair: Pair, role: str, ends: Sequence[Place], size: tuple[int, int]) -> Pair:
        """The pair after it, ``ends`` being its ends in px of the picture of ``size = (h, w)``.

        A drag moves a mark, or draws a box; a click chooses a mark, else adds a point or corrects the chosen match.
        """
        if len(ends) == 2:
            if self.mark is None:
                (x1, x2), (y1, y2) = (sorted(side) for side in zip(*ends, strict=True))
                return pair.then(**{f"{role}_box": box_on((x1, y1, x2, y2), size)})
            return (moved if role == "source" else corrected)(pair, self.mark, ends[1])
        if self.mark is not None and (role == "source" or self.mark != pair.chosen):
            return pair._replace(chosen=self.mark)
        if role == "source":
            return with_point(pair, ends[0])
        if not pair.marks:
            raise ValueError("Click a point of the source first.")
        return corrected(pair, pair.chosen, ends[0])


def stroke(marks_px: Float[np.ndarray, "n 2"], start_px: Sequence[float] | None, end_px: Sequence[float]) -> Stroke:
    """What a click at ``end_px``, or a drag from ``start_px``, takes hold of, in px of the page.

    >>> stroke(np.array([[50.0, 50.0]]), None, (55, 50)), stroke(np.array([[50.0, 50.0]]), (10, 10), (90, 50)).mark
    (Stroke(mark=0, ends_px=((55.0, 50.0),)), None)
    """
    end = (float(end_px[0]), float(end_px[1]))
    start = end if start_px is None else (float(start_px[0]), float(start_px[1]))
    away = np.hypot(*(np.reshape(marks_px, (-1, 2)) - start).T)
    nearest = int(away.argmin()) if len(away) and away.min() <= GRAB_PX else None
    dragged = np.hypot(end[0] - start[0], end[1] - start[1]) > MOVED_PX
    return Stroke(nearest, (start, end) if dragged else (end,))
