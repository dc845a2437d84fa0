"""Opening images: repairs give the right pixels, everything else a named error."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.fuzz import within
from PIL import EpsImagePlugin, Image

from geoalign.data import images
from geoalign.data.images import as_rgb, image_size, open_mask, open_rgb
from geoalign.data.records import DataError

SIZE = (20, 30)  # h, w
GREY = np.linspace(0, 255, 600).astype(np.uint8).reshape(SIZE)


def saved(tmp_path: Path, image: Image.Image, name: str = "picture.png", **options: object) -> Path:
    path = tmp_path / name
    image.save(path, **options)
    return path


def pixels(path: Path, **options: object) -> np.ndarray:
    return np.asarray(open_rgb(path, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["grey.png", "with space.png", "größe 猫.png", "no extension lies.jpg"])
def test_grey_becomes_three_equal_channels(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    Image.fromarray(GREY).save(path, "PNG")
    assert (pixels(path, size=SIZE) == GREY[..., None]).all()
    assert image_size(path) == SIZE


def test_16_bit_grey_keeps_the_upper_bits(tmp_path: Path) -> None:
    deep = Image.fromarray(GREY.astype(np.uint16) * 256 + 17)
    assert deep.mode == "I;16"
    assert (pixels(saved(tmp_path, deep)) == GREY[..., None]).all()
    assert (pixels(saved(tmp_path, Image.fromarray(GREY.astype(np.int32) * 256), "x.tiff")) == GREY[..., None]).all()


def test_deep_values_without_a_meaning_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.tiff: pixels: expected 16-bit"):
        open_rgb(saved(tmp_path, Image.fromarray(np.full(SIZE, -5, np.int32)), "x.tiff"))
    with pytest.raises(DataError, match=r"y\.tiff: mode: .*32-bit float"):
        open_rgb(saved(tmp_path, Image.fromarray(np.ones(SIZE, np.float32)), "y.tiff"))


def test_transparency_is_laid_over_black(tmp_path: Path) -> None:
    rgba = np.full((*SIZE, 4), 200, np.uint8)
    rgba[:10, :, 3], rgba[10:, :, 3] = 0, 255
    got = pixels(saved(tmp_path, Image.fromarray(rgba)))
    assert (got[:10] == 0).all()
    assert (got[10:] == 200).all()
    palette = Image.fromarray(GREY // 128).convert("P")
    got = pixels(saved(tmp_path, palette, "p.png", transparency=0))
    assert (got[0, 0] == 0).all()


def test_cmyk_and_bilevel_become_rgb(tmp_path: Path) -> None:
    colour = Image.new("RGB", (30, 20), (200, 40, 90))
    got = pixels(saved(tmp_path, colour.convert("CMYK"), "c.jpg", quality=100))
    assert np.abs(got.astype(int) - (200, 40, 90)).max() <= 4
    bits = pixels(saved(tmp_path, Image.fromarray(GREY > 128), "b.png"))
    assert set(np.unique(bits)) == {0, 255}


def rotated(tmp_path: Path, orientation: int) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(tmp_path, Image.fromarray(GREY), "exif.png", exif=exif)


def test_exif_orientation_is_ignored_unless_the_annotation_asks(tmp_path: Path) -> None:
    path = rotated(tmp_path, 6)
    assert (pixels(path)[..., 0] == GREY).all()
    assert (pixels(path, size=SIZE)[..., 0] == GREY).all()
    turned = np.rot90(GREY, -1)
    assert (pixels(path, size=SIZE[::-1])[..., 0] == turned).all()
    assert (pixels(path, upright=True)[..., 0] == turned).all()
    assert (pixels(rotated(tmp_path, 3), size=SIZE)[..., 0] == GREY).all()


def test_another_size_than_annotated_is_an_error(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(GREY))
    with pytest.raises(DataError, match=r"picture\.png: size: expected 21x30 .* got 20x30"):
        open_rgb(path, (21, 30))
    with pytest.raises(DataError, match="size"):
        open_mask(path, (21, 30))


def test_empty_missing_and_other_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "folder.jpg").mkdir()
    for name, told in (
        ("empty", "0 bytes"),
        ("text", "cannot identify"),
        ("none", "no such file"),
        ("folder", "a folder"),
    ):
        with pytest.raises(DataError, match=told) as caught:
            open_rgb(tmp_path / f"{name}.jpg")
        assert caught.value.file.endswith(f"{name}.jpg")


def test_huge_images_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    path = tmp_path / "long.pgm"
    path.write_bytes(b"P5 20000 1 255\n" + bytes(20000))
    with pytest.raises(DataError, match=r"long\.pgm: size: expected at most 16000 px a side .* got 1x20000"):
        open_rgb(path)
    path.write_bytes(b"P5 10000 9000 255\n")
    with pytest.raises(DataError, match="got 9000x10000"):
        image_size(path)
    path.write_bytes(b"P5 1000000 1000000 255\n")
    with pytest.raises(DataError, match="DecompressionBomb"):
        open_rgb(path)
    assert images.MAX_PIXELS < 89_478_485, "below the size at which Pillow only warns"


def test_zero_sized_images_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "zero.bmp"
    Image.new("RGB", (4, 4)).save(path)
    data = bytearray(path.read_bytes())
    data[18:22] = bytes(4)
    path.write_bytes(data)
    with pytest.raises(DataError):
        open_rgb(path)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_masks_are_where_values_are_not_zero(tmp_path: Path, mode: str) -> None:
    inside = np.zeros(SIZE, bool)
    inside[5:12, 3:9] = True
    image = Image.fromarray(inside.astype(np.uint8) * 255)
    image = Image.fromarray(inside.astype(np.uint8) * 15, "P") if mode == "P" else image.convert(mode)
    if mode == "P":
        image.putpalette([i // 3 for i in range(768)])
    assert (open_mask(saved(tmp_path, image), SIZE) == inside).all()


@pytest.mark.parametrize("form", ["EPS", "JPEG2000", "ICO", "TGA", "PDF"])
@pytest.mark.parametrize("reader", [open_rgb, open_mask, image_size, lambda path: as_rgb(Image.open(path))])
def test_other_formats_are_refused_whatever_the_file_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, reader: Callable[[Path], object]
) -> None:
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments, **options: pytest.fail("started a program"))
    path = tmp_path / "picture.jpg"
    Image.fromarray(GREY).convert("RGB").save(path, form)
    if form == "PDF" and reader not in (open_rgb, open_mask, image_size):
        return  # Pillow only writes these
    with pytest.raises(DataError, match="JPEG, MPO, PNG"):
        reader(path)


@pytest.mark.parametrize("form", ["JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF"])
def test_listed_formats_open_by_content(tmp_path: Path, form: str) -> None:
    path = tmp_path / "picture.dat"
    frames = {"save_all": True, "append_images": [Image.fromarray(255 - GREY).convert("RGB")]} if form == "MPO" else {}
    Image.fromarray(GREY).convert("RGB").save(path, form, **frames)
    assert np.abs(pixels(path, size=SIZE)[..., 0].astype(int) - GREY).max() < 20
    assert (np.asarray(as_rgb(Image.open(path))) == pixels(path)).all()
    assert image_size(path) == SIZE


@pytest.mark.parametrize("reader", [open_rgb, open_mask, image_size])
def test_what_is_no_regular_file_is_never_waited_for(tmp_path: Path, reader: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with within(20), pytest.raises(DataError, match=r"pipe\.png: file: expected a regular file, got a named pipe"):
        reader(tmp_path / "pipe.png")


def test_pictures_are_opened_in_one_place() -> None:
    package = Path(images.__file__).parents[1]
    places = [p.relative_to(package).as_posix() for p in package.rglob("*.py") if "Image.open(" in p.read_text("utf-8")]
    assert places == ["data/images.py"]
