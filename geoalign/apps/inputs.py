"""What people give, checked: pictures however they are called, points, mirror pairs, a device."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Literal
from urllib.parse import unquote, urlparse

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from geoalign.data.images import as_rgb, open_image, open_rgb
from geoalign.data.records import DataError

ImageLike = str | Path | Image.Image | np.ndarray | BinaryIO | io.BytesIO
"""A path, a ``file://`` address, an open binary file, a Pillow image or an array."""

PointsLike = np.ndarray | Tensor | Sequence[float] | Sequence[Sequence[float]]
"""Rows ``(x, y)``."""
BoxPx = tuple[float, float, float, float]
"""A subject's box ``x1 y1 x2 y2``, px."""
Align = Literal["off", "flip", "rotate"]
"""Which poses of the source are tried: none but its own, or a set of matching.methods.POSES."""
LookMode = Literal["once", "twice"]
"""One look at whole pictures, or then another at crops that the first one found."""
LOOKS = ("once", "twice")


def usable_device(name: str | None) -> str:
    """The device of that name, or the accelerator where there is one; ValueError for one that cannot compute here.

    >>> usable_device("cpu")
    'cpu'
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.ones(1, device=name).cpu()  # meta tensors are made anywhere, but hold nothing
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(
            f"device {name!r} cannot be used here: {str(error).splitlines()[0]}; give cpu, or none"
        ) from error
    return name


def open_picture(image: ImageLike | object) -> Image.Image:
    """8-bit RGB, turned as its EXIF orientation says; of an animation the first frame.

    Arrays are uint8 or bool ``(h w)``, ``(h w 3)`` or ``(h w 4)``. Raises DataError for what is no image.

    >>> open_picture(np.zeros((4, 6), dtype=np.uint8)).size
    (6, 4)
    """
    if isinstance(image, Image.Image):
        return as_rgb(image)
    if isinstance(image, np.ndarray):
        return as_rgb(_from_array(image))
    if isinstance(image, (str, Path)):
        return open_rgb(local_path(image), upright=True)
    if hasattr(image, "read"):
        return as_rgb(open_image(io.BytesIO(image.read()), "file"))
    raise DataError.at(
        "image", "type", "a path, an open file, a Pillow image or an array", type(image).__name__, "convert it"
    )


def local_path(image: str | Path) -> Path:
    """The file of a path or ``file://`` address; DataError for an address of another machine."""
    address = urlparse(image) if isinstance(image, str) else None
    if address is not None and address.scheme == "file":
        return Path(unquote(address.path))
    if address is not None and address.scheme in ("http", "https", "ftp"):
        raise DataError.at(str(image), "file", "a file of this machine", "an address", "download it first")
    return Path(image)


def outside(points: Float[np.ndarray, "n 2"], size: tuple[int, int]) -> Bool[np.ndarray, " n"]:
    """Which points ``(n 2)`` do not lie on an image of ``size = (h, w)``.

    >>> outside(np.array([[0.0, 0], [6, 4], [7, 0]]), (4, 6)).tolist()
    [False, False, True]
    """
    return np.asarray(~((points >= 0) & (points <= [size[1], size[0]])).all(-1))


def checked_points(points: PointsLike, size: tuple[int, int]) -> Float[Tensor, "n 2"]:
    """Points ``(n 2)`` on an image of ``size``, or a ValueError that names the first that is not."""
    xy = np.asarray(points, dtype=np.float32)
    if xy.ndim != 2 or xy.shape[-1] != 2:
        raise ValueError(f"points are (x, y) rows, shape (n, 2), got {xy.shape}")
    wrong = outside(xy, size)
    if wrong.any():
        x, y = xy[wrong][0].tolist()
        raise ValueError(f"point ({x:g}, {y:g}) lies outside the {size[1]}x{size[0]} image; points are x, y in px")
    return torch.from_numpy(xy)


def box_on(box_px: Sequence[float], size: tuple[int, int]) -> BoxPx:
    """A box ``x1 y1 x2 y2`` in px, cut to an image of ``size = (h, w)``; ValueError where it is none, or off the image.

    >>> box_on((-3, 1, 4, 9), (4, 6))
    (0.0, 1.0, 4.0, 4.0)
    """
    got = ", ".join(f"{value:g}" for value in box_px)
    if len(box_px) != 4 or not all(np.isfinite(box_px)) or box_px[0] >= box_px[2] or box_px[1] >= box_px[3]:
        raise ValueError(f"a box is x1, y1, x2, y2 in px with x1 < x2 and y1 < y2, got {got}")
    (x1, x2), (y1, y2) = np.clip(box_px[::2], 0, size[1]).tolist(), np.clip(box_px[1::2], 0, size[0]).tolist()
    if x1 >= x2 or y1 >= y2:
        raise ValueError(f"the box {got} lies outside the {size[1]}x{size[0]} image; a box is x1, y1, x2, y2 in px")
    return float(x1), float(y1), float(x2), float(y2)


def partners(count: int, mirror_pairs: Sequence[tuple[int, int]]) -> Int[Tensor, " n"]:
    """The mirror partner of each of ``count`` points; its own where no pair names it.

    >>> partners(3, [(0, 2)]).tolist()
    [2, 1, 0]
    """
    partner = list(range(count))
    for pair in mirror_pairs:
        if len(pair) != 2 or pair[0] == pair[1] or not all(0 <= i < count and partner[i] == i for i in pair):
            raise ValueError(f"mirror_pairs are pairs of numbers below {count}, each once, got {tuple(pair)}")
        partner[pair[0]], partner[pair[1]] = pair[1], pair[0]
    return torch.tensor(partner, dtype=torch.long)


def _from_array(array: np.ndarray) -> Image.Image:
    is_picture = array.size and (array.ndim == 2 or array.shape[2:] in ((3,), (4,)))
    if not is_picture or array.dtype not in (np.uint8, np.bool_):
        got = f"{array.dtype} {array.shape}"
        raise DataError.at("array", "shape", "uint8 (h w), (h w 3) or (h w 4)", got, "scale to 0..255 and convert")
    return Image.fromarray(array.astype(np.uint8) * (255 if array.dtype == np.bool_ else 1))
