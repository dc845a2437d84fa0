"""Opening images that may be anything: documented repairs to 8-bit RGB, named errors for the rest.

Repairs: grey, palette, CMYK and other colour modes become RGB; 16-bit grey keeps its upper eight bits; transparent
pixels are laid over black, as the letterbox surrounds are. Benchmark points are relative to the *stored* pixels, so
an EXIF orientation is ignored unless the annotated size fits only the turned image. Pillow raises errors of about
twenty types on malformed files, so whatever it raises is such a file's.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageOps

from geoalign.data.records import DataError, as_data_errors
from geoalign.files import open_regular

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")
"""All that is ever opened, whatever a file is called: Pillow decodes these itself, while EPS starts Ghostscript."""

MAX_SIDE = 16_000
MAX_PIXELS = 80_000_000
_LIMIT = f"at most {MAX_SIDE} px a side and {MAX_PIXELS:,} px in all"


def open_rgb(path: Path, size: tuple[int, int] | None = None, upright: bool = False) -> Image.Image:
    """The image as 8-bit RGB; see the module for repairs.

    ``size`` is the annotated ``(h, w)``, which must be met. ``upright`` obeys the EXIF orientation, for people's
    own photographs without annotations.
    """
    stored = _decode(path)
    turned = _turned(path, stored) if upright or not _fits(stored, size) else stored
    if not _fits(turned, size):
        raise _size_error(path, stored, size)
    return _rgb(path, turned)


def as_rgb(image: Image.Image, name: str = "image") -> Image.Image:
    """An image that is open already, repaired and turned upright as :func:`open_rgb` does; ``name`` is for errors."""
    path = Path(name)
    if image.format not in (None, *FORMATS):  # decoding is lazy: Pillow would start Ghostscript only now
        raise DataError.at(path, "format", f"one of {', '.join(FORMATS)}", image.format, "convert it")
    _check_size(path, image)
    return _rgb(path, _turned(path, _loaded(path, image)))


def open_mask(path: Path, size: tuple[int, int] | None = None) -> Bool[np.ndarray, "h w"]:
    """A segmentation: every non-zero value or palette index is object.

    Raises:
        DataError: no picture, damaged, or not of the annotated ``size`` (h, w).
    """
    image = _decode(path)
    if not _fits(image, size):
        raise _size_error(path, image, size)
    values = np.asarray(image) != 0
    colours = len(image.getbands()) - ("A" in image.getbands())
    return values if values.ndim == 2 else np.asarray(values[..., :colours].any(axis=-1))


def image_size(path: Path) -> tuple[int, int]:
    """Stored ``(h, w)`` from the header alone; no pixel is decoded. Raises ``DataError`` for what is no picture."""
    with _opened(path) as image:
        return image.height, image.width


def open_image(file: BinaryIO | io.BytesIO, path: Path | str) -> Image.Image:
    """The picture in an open file: its format allowed, its size checked, no pixel decoded; ``path`` is for errors.

    Every picture and mask of the package is opened here.

    Raises:
        DataError: empty, no picture of :data:`FORMATS`, or larger than is ever decoded.
    """
    if not file.read(1):
        raise DataError.at(path, "file", "an image", "0 bytes", "restore the file")
    try:
        image = Image.open(file, formats=[name for name in FORMATS if name != "MPO"])  # which the JPEG reader finds
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError.at(path, "size", _LIMIT, _reason(error), "scale the image down first") from error
    except Exception as error:
        expected = f"an image of {', '.join(FORMATS)}"
        raise DataError.at(path, "file", expected, _reason(error), "restore the file or convert it") from error
    _check_size(path, image)
    return image


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    with as_data_errors():
        file = open_regular(path, "restore it or correct the path")
    with file:
        yield open_image(file, path)


def _check_size(path: Path | str, image: Image.Image) -> None:
    shown = f"{image.height}x{image.width}"
    if max(image.size) > MAX_SIDE or image.width * image.height > MAX_PIXELS:
        raise DataError.at(path, "size", _LIMIT, shown, "scale the image down first")
    if min(image.size) < 1:
        raise DataError.at(path, "size", "at least one pixel a side", shown, "restore it")


def _decode(path: Path) -> Image.Image:
    with _opened(path) as image:
        return _loaded(path, image)


def _loaded(path: Path, image: Image.Image) -> Image.Image:
    try:
        image.load()
    except Exception as error:
        raise DataError.at(path, "pixels", "a complete image", _reason(error), "restore the file") from error
    return image


def _size_error(path: Path, image: Image.Image, size: tuple[int, int] | None) -> DataError:
    expected = "{}x{} (h x w) as annotated".format(*size or ())
    return DataError.at(path, "size", expected, f"{image.height}x{image.width}", "restore the image")


def _turned(path: Path, image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:
        raise DataError.at(path, "exif", "a readable orientation", _reason(error), "remove the EXIF block") from error


def _fits(image: Image.Image, size: tuple[int, int] | None) -> bool:
    return size is None or (image.height, image.width) == tuple(size)


def _rgb(path: Path, image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        return _from_deep_grey(path, image)
    if image.mode == "F":
        raise DataError.at(path, "mode", "an 8- or 16-bit image", "32-bit float", "convert it to 8 bits")
    try:
        if image.has_transparency_data:
            rgba = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
        return image.convert("RGB")
    except Exception as error:
        raise DataError.at(path, "mode", "a mode that converts to RGB", image.mode, "convert it to RGB") from error


def _from_deep_grey(path: Path, image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise DataError.at(path, "pixels", "16-bit grey in 0..65535", f"{values.min()}..{values.max()}", "convert it")
    return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
