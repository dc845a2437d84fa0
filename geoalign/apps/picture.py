"""A picture made ready for matching, and what a matcher answers; all in original pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Bool, Int
from PIL import Image
from torch import Tensor

from geoalign.apps.inputs import Align, BoxPx, box_on
from geoalign.bank import Bank
from geoalign.geometry import Crop, Pose


class Answer(NamedTuple):
    """Where points lie in a target; ``pose`` is the source's that was matched."""

    xy_px: np.ndarray  # (n 2) of the original target
    score: np.ndarray  # (n) cosine at the peak
    pose: Pose
    confidence: np.ndarray  # (n) probability that the match is right
    visible: np.ndarray  # (n) bool: False where it is so unlikely that the target may not show the point
    stepped_back: bool = False  # matched by frozen features: the pictures are unlike those the refiner learned from


class Field(NamedTuple):
    """A match for every cell of a grid over the source's frame that ``inside`` holds; NaN elsewhere."""

    src_xy_px: np.ndarray  # (g g 2) cell centres in the original source
    xy_px: np.ndarray  # (g g 2) in the original target
    score: np.ndarray  # (g g)
    inside: np.ndarray  # (g g) bool
    pose: Pose
    confidence: np.ndarray | None = None  # (g g) of dense: probability that the match is right, each cell by itself
    stepped_back: bool = False  # as an answer's


@dataclass(eq=False)
class Picture:
    """A picture made ready: a bank of one view per pose, each computed when first needed.

    Pictures belong to one backbone and refiner; poses once chosen against a target are remembered.
    """

    image: Image.Image
    box_px: BoxPx | None = None  # its subject's, where somebody said it: matches lie in it
    banks: dict[Pose, Bank] = field(default_factory=dict)
    closer: dict[Crop, Bank] = field(default_factory=dict)  # of the last second look: its crop
    subjects: dict[Pose, Bool[Tensor, "g g"]] = field(default_factory=dict)  # for the choice of a pose
    choices: WeakKeyDictionary[Picture, dict[Align, Int[Tensor, "1"]]] = field(default_factory=WeakKeyDictionary)
    frozen: Picture | None = None  # the same for the frozen features that a matcher may step back to

    @property
    def nbytes(self) -> int:
        """Memory that its descriptors take."""
        own = sum(bank.nbytes for bank in (*self.banks.values(), *self.closer.values()))
        return own + (0 if self.frozen is None else self.frozen.nbytes)

    @property
    def size(self) -> tuple[int, int]:
        """``(h, w)`` of the upright picture."""
        return self.image.height, self.image.width

    def within(self, box_px: Sequence[float] | None) -> Picture:
        """The same picture and banks with another box ``x1 y1 x2 y2`` in px, or none; ValueError for one off it."""
        box = None if box_px is None else box_on(box_px, self.size)
        frozen = None if self.frozen is None else self.frozen.within(box_px)
        return replace(self, box_px=box, closer={}, subjects={}, choices=WeakKeyDictionary(), frozen=frozen)
