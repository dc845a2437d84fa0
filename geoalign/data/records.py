"""What every reader yields: annotated images and pairs of them, in original image pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32

from geoalign.files import FileError
from geoalign.geometry import Framing, placement
from geoalign.symmetry import Symmetry

Threshold = Literal["box", "image"]


class DataError(ValueError):
    """A dataset file is missing or wrong; the message names file, field and remedy."""

    file: str = ""
    field: str = ""

    @classmethod
    def at(cls, file: Path | str, field: str, expected: str, got: object, remedy: str) -> DataError:
        """An error about one ``field`` of ``file`` (both also kept as attributes)."""
        shown = got if isinstance(got, str) else repr(got)
        shown = shown if len(shown) <= 120 else shown[:117] + "..."
        error = cls(f"{file}: {field}: expected {expected}, got {shown}; {remedy}")
        error.file, error.field = str(file), field
        return error


@contextmanager
def as_data_errors() -> Iterator[None]:
    """What :mod:`geoalign.files` refuses within, as a :class:`DataError` of the field ``file``."""
    try:
        yield
    except FileError as error:
        raise DataError.at(error.path, "file", error.expected, error.got, error.remedy) from error


class ImageRecord(NamedTuple):
    """One annotated image; points are ``(x, y)`` px of the original image, one row per slot."""

    image_id: str
    path: Path
    size: tuple[int, int]  # (h, w)
    category: str
    xy_px: Float32[np.ndarray, "n 2"]  # zero where not visible
    visible: Bool[np.ndarray, "n"]
    box_px: tuple[float, float, float, float]  # x1 y1 x2 y2
    azimuth: int = -1  # 0..7, -1 unknown
    mask_path: Path | None = None
    framing: Framing = "letterbox"  # how it fills its frame, wherever it is shown
    mirrored: bool = False  # rows show its mirror image where they would show it as it is, and the other way round
    weight: Float32[np.ndarray, "n"] | None = None  # of each point in the losses; None: all alike


class PairRecord(NamedTuple):
    """A source and a target image of one evaluation or training pair."""

    pair_id: str
    src: ImageRecord
    trg: ImageRecord
    category: str

    @property
    def visible(self) -> Bool[np.ndarray, "n"]:
        """Slots seen in both images: the only ones that count."""
        return self.src.visible & self.trg.visible

    @property
    def azimuth_difference(self) -> int:
        """0..4 steps of 45 degrees, -1 where either azimuth is unknown."""
        if self.src.azimuth < 0 or self.trg.azimuth < 0:
            return -1
        steps = abs(self.src.azimuth - self.trg.azimuth)
        return min(steps, 8 - steps)


class PairSource(Sequence[PairRecord]):
    """Base of every dataset: a sequence of pairs with its facts beside it.

    Subclasses set ``name`` (used in logged keys), ``threshold`` (what PCK is relative to), ``slots``
    (keypoint slots per image), ``categories`` and ``symmetries`` (a category without an entry has no mirror
    table), and implement ``__len__`` and ``__getitem__`` (an int index). ``images`` lists every distinct image once.
    """

    name: str
    split: str
    threshold: Threshold
    slots: int
    categories: tuple[str, ...]
    symmetries: Mapping[str, Symmetry]

    @property
    def images(self) -> Sequence[ImageRecord]:
        """Every image of the pairs, once."""
        raise NotImplementedError

    def cliques(self) -> Sequence[Sequence[int]]:
        """Indices of images any two of which may be a pair; here those of a category."""
        groups: dict[str, list[int]] = {}
        for at, image in enumerate(self.images):
            groups.setdefault(image.category, []).append(at)
        return list(groups.values())

    def fingerprint(self) -> str:
        """Hash of everything the pairs say (not of pixels); stored in results."""
        raise NotImplementedError


def pck_size_px(record: ImageRecord, threshold: Threshold) -> float:
    """The length PCK is relative to, in original pixels: max side of the box or of the image."""
    return max(_sides_px(record, threshold))


def framed_size_px(record: ImageRecord, threshold: Threshold, frame: int) -> float:
    """The same length in px of the frame, where errors are measured: of the box as the frame shows it.

    In a squashed frame both sides are scaled for themselves and so is the error, as papers do that squash: what counts
    as near is then a circle of the frame, an ellipse of the picture.
    """
    scale = placement(record.size, frame, record.framing).scale
    return max(side * factor for side, factor in zip(_sides_px(record, threshold), scale, strict=True))


def _sides_px(record: ImageRecord, threshold: Threshold) -> tuple[float, float]:
    """Width and height, in original pixels."""
    if threshold == "image":
        return float(record.size[1]), float(record.size[0])
    x1, y1, x2, y2 = record.box_px
    return float(x2 - x1), float(y2 - y1)


def related_slots(source: PairSource, category: str) -> Bool[np.ndarray, "n n"]:
    """Which slots are other instances of the same part, or mirror partners."""
    symmetry = source.symmetries.get(category)
    return np.zeros((source.slots, source.slots), dtype=bool) if symmetry is None else symmetry.related(source.slots)
