"""Opening images that may be anything: documented repairs to 8-bit RGB, named errors for the rest.

Repairs: grey, palette, CMYK and other colour modes become RGB; 16-bit grey keeps its upper eight bits; transparent
pixels are laid over black, as the letterbox surrounds are. Benchmark points are relative to the *stored* pixels, so
an EXIF orientation is ignored unless the annotated size fits only the turned image.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from geoalign.data.records import DataError

MAX_SIDE = 16_000
MAX_PIXELS = 80_000_000
_LIMIT = f"at most {MAX_SIDE} px a side and {MAX_PIXELS:,} px in all"

# Everything Pillow's decoders are known to raise on malformed files; its own types derive from these.
DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, AttributeError, OverflowError,
    RuntimeError, AssertionError, MemoryError, NotImplementedError, struct.error, zlib.error,
    Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


def open_rgb(path: Path, size: tuple[int, int] | None = None, upright: bool = False) -> Image.Image:
    """The image as 8-bit RGB; see the module for repairs.

    ``size`` is the annotated ``(h, w)``, which must be met. ``upright`` obeys the EXIF orientation, for people's
    own photographs without annotations.
    """
    stored = _decode(path)
    turned = _turned(path, stored) if upright or not _fits(stored, size) else stored
    if not _fits(turned, size):
        got = f"{stored.height}x{stored.width}"
        raise DataError.at(path, "size", "{}x{} (h x w) as annotated".format(*size or ()), got, "restore the image")
    return _rgb(path, turned)


def as_rgb(image: Image.Image, name: str = "image") -> Image.Image:
    """An image that is open already, repaired and turned upright as :func:`open_rgb` does; ``name`` is for errors."""
    path = Path(name)
    _check_size(path, image)
    try:
        image.load()
    except DECODER_ERRORS as error:
        raise DataError.at(path, "pixels", "a complete image", _told(error), "restore the file") from error
    return _rgb(path, _turned(path, image))


def open_mask(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """A segmentation as bool ``(h w)``: every non-zero value or palette index is object."""
    image = _decode(path)
    if not _fits(image, size):
        got = f"{image.height}x{image.width}"
        raise DataError.at(path, "size", "{}x{} (h x w) as annotated".format(*size or ()), got, "restore the mask")
    values = np.asarray(image) != 0
    colours = len(image.getbands()) - ("A" in image.getbands())
    return values if values.ndim == 2 else np.asarray(values[..., :colours].any(axis=-1))


def image_size(path: Path) -> tuple[int, int]:
    """Stored ``(h, w)`` from the header alone; no pixel is decoded."""
    with _opened(path) as image:
        return image.height, image.width


def _opened(path: Path) -> Image.Image:
    try:
        if path.stat().st_size == 0:
            raise DataError.at(path, "file", "an image", "0 bytes", "restore the file")
        image = Image.open(path)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError.at(path, "file", "an image", "no such file", "restore it or correct the path") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError.at(path, "size", _LIMIT, _told(error), "scale the image down first") from error
    except DECODER_ERRORS as error:
        raise DataError.at(path, "file", "an image Pillow can read", _told(error), "restore the file") from error
    _check_size(path, image)
    return image


def _check_size(path: Path, image: Image.Image) -> None:
    if max(image.size) > MAX_SIDE or image.width * image.height > MAX_PIXELS:
        image.close()
        raise DataError.at(path, "size", _LIMIT, f"{image.height}x{image.width}", "scale the image down first")
    if min(image.size) < 1:
        raise DataError.at(path, "size", "at least one pixel a side", f"{image.height}x{image.width}", "restore it")


def _decode(path: Path) -> Image.Image:
    with _opened(path) as image:
        try:
            image.load()
        except DECODER_ERRORS as error:
            raise DataError.at(path, "pixels", "a complete image", _told(error), "restore the file") from error
        return image


def _turned(path: Path, image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except DECODER_ERRORS as error:
        raise DataError.at(path, "exif", "a readable orientation", _told(error), "remove the EXIF block") from error


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
    except DECODER_ERRORS as error:
        raise DataError.at(path, "mode", "a mode that converts to RGB", image.mode, "convert it to RGB") from error


def _from_deep_grey(path: Path, image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise DataError.at(path, "pixels", "16-bit grey in 0..65535", f"{values.min()}..{values.max()}", "convert it")
    return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
