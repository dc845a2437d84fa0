"""The one coordinate convention.

Points are ``(x, y)``, sizes are ``(h, w)``. Pixels are continuous with (0, 0) at the image's corner;
cells have integer coordinates at their centres. Every image lives in a square *frame*, put there in one of three ways
(:data:`Framing`). Poses act on that square.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Bool, Shaped
from PIL import Image
from torch import Tensor

Array = TypeVar("Array", Tensor, np.ndarray)

Real = float | int  # whole numbers are spelled out: annotations are checked at run time in tests

FRAME_PX = 840
"""Side of the frame in which points, predictions and thresholds are kept (60 cells of 14 px)."""

Framing = Literal["letterbox", "squash", "pad"]
"""How a picture fills its frame: ``letterbox``: longer side to the frame's, centred on black; ``pad``: so, but in the
upper left corner, black to the right and below; ``squash``: both sides to the frame's, whatever that does to shapes."""
FRAMINGS: tuple[Framing, ...] = ("letterbox", "squash", "pad")


class Pose(NamedTuple):
    """A view's pose: mirrored left-right first (or not), then turned counter-clockwise.

    >>> str(Pose(True, 90.0)), Pose.parse("flip+rot90") == Pose(True, 90.0)
    ('flip+rot90', True)
    """

    flip: bool = False
    degrees: float = 0.0

    def __str__(self) -> str:
        degrees = f"{self.degrees % 360:.6f}".rstrip("0").rstrip(".")  # never 1e-07: the name is read back
        parts = (["flip"] if self.flip else []) + ([f"rot{degrees}"] if degrees != "0" else [])
        return "+".join(parts) or "upright"

    @classmethod
    def parse(cls, text: str) -> Pose:
        """Read ``upright``, ``flip``, ``rot90`` or ``flip+rot90``; degrees lie in [0, 360)."""
        flip, degrees = False, 0.0
        for part in text.split("+"):
            if part == "flip":
                flip = True
            elif part.startswith("rot") and part[3:].replace(".", "", 1).isdigit():
                degrees = float(part[3:]) % 360
            elif part != "upright":
                raise ValueError(f"pose is upright, flip, rot<degrees> or flip+rot<degrees>, got {text!r}")
        return cls(flip, degrees)


UPRIGHT, FLIP = Pose(), Pose(True)


class Crop(NamedTuple):
    """A square of the frame that is looked at by itself, as large as a frame: its corner and side in frame px.

    It may hang over the frame; what lies outside the picture is black.
    """

    x: float
    y: float
    side: float

    def __str__(self) -> str:
        return "crop" + ",".join(f"{value:g}" for value in self)


class Placement(NamedTuple):
    """Where a picture lies in its frame: px of the frame per px of the picture, its height, width and corner there."""

    scale: tuple[float, float]  # along x, along y
    h: int
    w: int
    dx: int
    dy: int


def placement(size: tuple[int, int], frame: int, framing: Framing = "letterbox") -> Placement:
    """Where an image of ``size = (h, w)`` lies in a frame of ``frame`` px.

    >>> placement((50, 100), 200), placement((50, 100), 200, "squash").scale
    (Placement(scale=(2.0, 2.0), h=100, w=200, dx=0, dy=50), (2.0, 4.0))
    """
    h, w = size
    if h < 1 or w < 1:
        raise ValueError(f"an image needs at least one pixel a side, got {h}x{w}")
    if framing not in FRAMINGS:
        raise ValueError(f"an image is framed by {', '.join(FRAMINGS)}, got {framing!r}")
    if framing == "squash":
        return Placement((frame / w, frame / h), frame, frame, 0, 0)
    scale = frame / max(h, w)
    new_h, new_w = max(1, round(h * scale)), max(1, round(w * scale))
    if framing == "pad":
        return Placement((new_w / w, new_h / h), new_h, new_w, 0, 0)
    # one scale, as released, though the shorter side is rounded to whole pixels
    return Placement((scale, scale), new_h, new_w, (frame - new_w) // 2, (frame - new_h) // 2)


def letterbox(
    image: Image.Image,
    frame: int = FRAME_PX,
    resample: int = Image.Resampling.LANCZOS,
    framing: Framing = "letterbox",
) -> Image.Image:
    """A picture in a square of ``frame`` px, black around it (docs/protocol.md#frame-and-points)."""
    place = placement((image.height, image.width), frame, framing)
    square = Image.new(image.mode, (frame, frame))
    square.paste(image.resize((place.w, place.h), resample), (place.dx, place.dy))
    return square


def look_closer(
    image: Image.Image, crop: Crop, size: int, frame: int = FRAME_PX, framing: Framing = "letterbox"
) -> Image.Image:
    """The part of a picture that lies in a crop of its ``frame``, in a square of ``size`` px, black around it.

    Only whole pixels of the square are filled, each from exactly the part of the picture that it stands for: points
    moved by :func:`crop_points` lie where their picture does, to no rounding.
    """
    scale, _, _, dx, dy = placement((image.height, image.width), frame, framing)
    zoom = size / crop.side  # px of the square per px of the frame
    left, top = (dx - crop.x) * zoom, (dy - crop.y) * zoom  # of the picture in the square
    x_per_px, y_per_px = zoom * scale[0], zoom * scale[1]
    x1, y1 = max(0, math.ceil(left)), max(0, math.ceil(top))
    x2 = min(size, math.floor(left + image.width * x_per_px))
    y2 = min(size, math.floor(top + image.height * y_per_px))
    square = Image.new(image.mode, (size, size))
    if x1 < x2 and y1 < y2:
        box = ((x1 - left) / x_per_px, (y1 - top) / y_per_px, (x2 - left) / x_per_px, (y2 - top) / y_per_px)
        inside = (box[0], box[1], min(box[2], image.width), min(box[3], image.height))  # rounding must not leave it
        square.paste(image.resize((x2 - x1, y2 - y1), Image.Resampling.LANCZOS, box=inside), (x1, y1))
    return square


def crop_points(xy_px: Array, crop: Array, frame: Real = FRAME_PX) -> Array:
    """Points of the frame in the frame that shows a crop alone; ``crop`` is ``(… 3)``: x, y and side.

    >>> crop_points(torch.tensor([420.0, 105.0]), torch.tensor([210.0, 0.0, 420.0])).tolist()
    [420.0, 210.0]
    """
    return (xy_px - crop[..., :2]) * (frame / crop[..., 2:])


def uncrop_points(xy_px: Array, crop: Array, frame: Real = FRAME_PX) -> Array:
    """Undo :func:`crop_points`."""
    return xy_px * (crop[..., 2:] / frame) + crop[..., :2]


def letterbox_points(
    xy_px: Array, size: tuple[int, int], frame: int = FRAME_PX, framing: Framing = "letterbox"
) -> Array:
    """Points of an image of ``size = (h, w)`` in the frame.

    >>> letterbox_points(torch.tensor([[0.0, 0.0]]), (375, 500), 840).tolist()
    [[0.0, 105.0]]
    """
    scale, _, _, dx, dy = placement(size, frame, framing)
    return xy_px * _like(xy_px, scale) + _like(xy_px, [dx, dy])


def unletterbox_points(
    xy_px: Array, size: tuple[int, int], frame: int = FRAME_PX, framing: Framing = "letterbox"
) -> Array:
    """Points of the frame back in an image of ``size = (h, w)``; undoes :func:`letterbox_points`."""
    scale, _, _, dx, dy = placement(size, frame, framing)
    return (xy_px - _like(xy_px, [dx, dy])) / _like(xy_px, scale)


def flip_points(xy_px: Array, frame: Real = FRAME_PX) -> Array:
    """Mirror left-right inside the frame: x to ``frame - x``. Slots are permuted by the caller."""
    return xy_px * _like(xy_px, [-1.0, 1.0]) + _like(xy_px, [frame, 0.0])


def rotate_points(xy_px: Array, degrees: Real, frame: Real = FRAME_PX) -> Array:
    """Turn counter-clockwise (as seen) about the frame's centre.

    >>> rotate_points(torch.tensor([10.0, 20.0]), 90, 100).tolist()
    [20.0, 90.0]
    """
    cos, sin = _cos_sin(degrees)
    centred = xy_px - frame / 2
    turned = centred @ _like(xy_px, [[cos, -sin], [sin, cos]])
    return cast(Array, turned + frame / 2)


def pose_points(xy_px: Array, pose: Pose, frame: Real = FRAME_PX) -> Array:
    """Where upright points lie in the view of ``pose``."""
    flipped = flip_points(xy_px, frame) if pose.flip else xy_px
    return rotate_points(flipped, pose.degrees, frame) if pose.degrees else flipped


def unpose_points(xy_px: Array, pose: Pose, frame: Real = FRAME_PX) -> Array:
    """Undo :func:`pose_points`."""
    turned = rotate_points(xy_px, -pose.degrees, frame) if pose.degrees else xy_px
    return flip_points(turned, frame) if pose.flip else turned


def pose_image(square: Shaped[np.ndarray, "s s *c"], pose: Pose) -> Shaped[np.ndarray, "s s *c"]:
    """Pixels of a frame under ``pose``: right angles exact, others edge-padded."""
    if square.shape[0] != square.shape[1]:
        raise ValueError(f"poses act on square frames, got {square.shape}; letterbox first")
    flipped = square[:, ::-1] if pose.flip else square
    if pose.degrees % 90 == 0:
        return np.ascontiguousarray(np.rot90(flipped, int(pose.degrees) // 90))
    return _rotate_edge_padded(flipped, pose.degrees)


def content_cells(size: tuple[int, int], grid: int, framing: Framing = "letterbox") -> Bool[Tensor, "g g"]:
    """Cells whose centre lies on the image, not on the bars, of a framed image of ``size = (h, w)``.

    >>> content_cells((50, 100), 4).int().tolist()
    [[0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]]
    """
    centre = (torch.arange(grid) + 0.5) / grid
    x1, y1, x2, y2 = _upright_extent(size, 1.0, framing)
    near = 1e-6  # of the frame: a centre on the edge is on the image, whatever rounding says
    rows, columns = ((centre >= low - near) & (centre <= high + near) for low, high in ((y1, y2), (x1, x2)))
    return rows[:, None] & columns[None]


def picture_extent(
    size: tuple[int, int],
    pose: Pose = UPRIGHT,
    crop: Crop | None = None,
    frame: Real = FRAME_PX,
    framing: Framing = "letterbox",
) -> tuple[float, float, float, float]:
    """Where a picture of ``size = (h, w)`` lies in the frame of its view: x1 y1 x2 y2; beside it are bars.

    All of the frame under other turns than quarter ones, which smear the bars over it.

    >>> picture_extent((50, 100), frame=100), picture_extent((50, 100), Pose(False, 90.0), frame=100)
    ((0.0, 25.0, 100.0, 75.0), (25.0, 0.0, 75.0, 100.0))
    """
    if pose.degrees % 90:
        return 0.0, 0.0, float(frame), float(frame)
    corners = np.array(_upright_extent(size, frame, framing)).reshape(2, 2)
    if crop is not None:
        corners = np.clip(crop_points(corners, np.array(crop), frame), 0, frame)
    posed = pose_points(corners, pose, frame)
    (x1, y1), (x2, y2) = posed.min(0).tolist(), posed.max(0).tolist()
    return x1, y1, x2, y2


def _upright_extent(size: tuple[int, int], frame: Real, framing: Framing) -> tuple[float, float, float, float]:
    """A whole picture's x1 y1 x2 y2, before sides are rounded to whole pixels."""
    if framing == "squash":
        return 0.0, 0.0, float(frame), float(frame)
    h, w = (side * frame / max(size) for side in size)
    if framing == "pad":
        return 0.0, 0.0, w, h
    return (frame - w) / 2, (frame - h) / 2, (frame + w) / 2, (frame + h) / 2


def px_to_cell(xy_px: Array, stride: Real) -> Array:
    """Pixels to cells.

    >>> px_to_cell(torch.tensor([7.0, 21.0]), stride=14).tolist()
    [0.0, 1.0]
    """
    return xy_px / stride - 0.5


def cell_to_px(xy_cell: Array, stride: Real) -> Array:
    """Cells to pixels; undoes :func:`px_to_cell`."""
    return (xy_cell + 0.5) * stride


def _cos_sin(degrees: Real) -> tuple[float, float]:
    if degrees % 90 == 0:  # exact, so that four quarter turns are the identity
        return [(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)][int(degrees // 90) % 4]
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))


def _rotate_edge_padded(square: np.ndarray, degrees: Real) -> np.ndarray:
    side = square.shape[0]
    pad = math.ceil(side * (math.sqrt(2) - 1) / 2) + 1
    widths = [(pad, pad), (pad, pad)] + [(0, 0)] * (square.ndim - 2)
    nearest = square.dtype == bool
    padded = Image.fromarray(np.pad(square.astype(np.uint8) if nearest else square, widths, mode="edge"))
    resample = Image.Resampling.NEAREST if nearest else Image.Resampling.BICUBIC
    turned = np.asarray(padded.rotate(degrees, resample))[pad : pad + side, pad : pad + side]
    return turned.astype(square.dtype)


def _like(reference: Array, values: Any) -> Any:
    """Constants of the reference's kind, type and device; floating for whole-numbered references."""
    if isinstance(reference, Tensor):
        dtype = reference.dtype if reference.is_floating_point() else torch.get_default_dtype()
        return torch.tensor(values, dtype=dtype, device=reference.device)
    return np.asarray(values, dtype=reference.dtype if reference.dtype.kind == "f" else np.float64)
