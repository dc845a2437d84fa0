"""A photograph's subject as cells: descriptors and places, as it is and mirrored."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geoalign.geometry import FRAME_PX, cell_to_px, flip_points

FEWEST = 12
"""Cells that a subject has at least."""


class Look(NamedTuple):
    """The ``k`` cells of a subject in one pose: unit descriptors, and centres in px of the frame."""

    descriptors: Float[Tensor, "k c"]
    xy_px: Float[Tensor, "k 2"]

    @property
    def extent_px(self) -> float:
        """The longer side of the box around the cells."""
        return float((self.xy_px.amax(0) - self.xy_px.amin(0)).amax().clamp(min=1.0))


class Subject(NamedTuple):
    """The same cells in the same order as they are, and in the mirror image."""

    upright: Look
    mirrored: Look

    def look(self, mirrored: bool) -> Look:
        """One of the two."""
        return self.mirrored if mirrored else self.upright

    @classmethod
    def of(
        cls, views: Float[Tensor, "2 c g g"], inside: Bool[Tensor, "g g"], frame_px: float = FRAME_PX
    ) -> Subject | None:
        """From descriptors of the upright view and of the mirrored one; None where fewer than ``FEWEST`` cells lie in.

        ``inside`` are the subject's cells in the upright view.
        """
        y, x = torch.nonzero(inside, as_tuple=True)
        if len(x) < FEWEST:
            return None
        g = inside.shape[1]
        xy_px = cell_to_px(torch.stack([x, y], 1).float(), frame_px / g)
        upright, mirrored = views[0][:, y, x].T.float(), views[1][:, y, g - 1 - x].T.float()
        return cls(Look(upright, xy_px), Look(mirrored, flip_points(xy_px, frame_px)))


def subject_cells(
    foreground: Bool[Tensor, "g g"], box_px: tuple[float, float, float, float] | None, frame_px: float = FRAME_PX
) -> Bool[Tensor, "g g"]:
    """The foreground's cells in the box (px of the frame); all of the box where that is less than a quarter of it.

    The foreground is a guess that fails on some photographs; a box that somebody drew is none.
    """
    if box_px is None:
        return foreground
    centre = cell_to_px(torch.arange(foreground.shape[0]), frame_px / foreground.shape[0])
    x1, y1, x2, y2 = box_px
    box = ((centre >= y1) & (centre <= y2))[:, None] & ((centre >= x1) & (centre <= x2))[None]
    inside = foreground & box
    return inside if 4 * int(inside.sum()) >= int(box.sum()) else box
