"""Whatever people call an image, as an upright 8-bit RGB picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlparse

import numpy as np
from PIL import Image

from geoalign.data.images import as_rgb, open_image, open_rgb
from geoalign.data.records import DataError

ImageLike = str | Path | Image.Image | np.ndarray | BinaryIO | io.BytesIO
"""A path, a ``file://`` address, an open binary file, a Pillow image or an array."""


def open_picture(image: ImageLike) -> Image.Image:
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
        return as_rgb(_from_file(image))
    wanted = "a path, an open file, a Pillow image or an array"
    raise DataError.at("image", "type", wanted, type(image).__name__, "convert it")


def name_of(image: object, default: str = "image") -> str:
    """How to call an image in messages: its file's name where it has one."""
    if isinstance(image, (str, Path)):
        return local_path(image).name
    return Path(getattr(image, "filename", "") or default).name


def local_path(image: str | Path) -> Path:
    address = urlparse(image) if isinstance(image, str) else None
    if address is not None and address.scheme == "file":
        return Path(unquote(address.path))
    if address is not None and address.scheme in ("http", "https", "ftp"):
        raise DataError.at(str(image), "file", "a file of this machine", "an address", "download it first")
    return Path(image)


def _from_array(array: np.ndarray) -> Image.Image:
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not fits or array.dtype not in (np.uint8, np.bool_):
        got = f"{array.dtype} {array.shape}"
        raise DataError.at("array", "shape", "uint8 (h w), (h w 3) or (h w 4)", got, "scale to 0..255 and convert")
    if not array.size:
        raise DataError.at("array", "shape", "at least one pixel a side", f"{array.shape}", "give another")
    return Image.fromarray(array.astype(np.uint8) * (255 if array.dtype == np.bool_ else 1))


def _from_file(file: BinaryIO | io.BytesIO) -> Image.Image:
    return open_image(io.BytesIO(file.read()), name_of(file, "file"))
