"""Every broken SPair-71k tree and image gives a named error, or reads exactly what the file says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fuzz import Mutation, every, image_mutations, json_mutations, verdict
from helpers.spair_tree import annotation, write_tree

from geoalign.data.images import open_mask, open_rgb
from geoalign.data.readers.spair import SPair71k
from geoalign.data.records import DataError

pytestmark = pytest.mark.untraced  # a thousand times the same lines
CATEGORY, NAME = "cat", "2008_000002"
READ = {"filename", "image_width", "image_height", "category", "bndbox", "azimuth_id", "kps"}


def is_read(path: tuple[Any, ...]) -> bool:
    return path[0] in READ and not (path[0] == "kps" and len(path) > 1 and path[1] not in ("0", "9", "29"))


ANNOTATIONS = list(json_mutations(annotation(CATEGORY, NAME, 1), is_read))
LINE = f"000001-2008_000001-{NAME}:{CATEGORY}"
BAD_LINES = [
    "", "   ", "x", "000001", "1-a-b", "1-a:cat", "-a-b:cat", "1--b:cat", "1-a-:cat", "1-a-b:", "1-a-b-c:cat",
    "1-a-b:cat:cat", f"000009-../{NAME}-{NAME}:cat", f"000009-{NAME}-..:cat", f"000009-{NAME}-/etc/passwd:cat",
    f"000009-{NAME}-a\\b:cat", f"000009-{NAME}-\0:cat", f"000009-{NAME}-{NAME}:dragon", f"000009-{NAME}-{NAME}:..",
    f"000009-{NAME}-{NAME}:Cat", f"000009-{NAME}-{NAME}:cat ", f" 000009-{NAME}-{NAME}:cat",
    f"000009-{NAME}-missing:cat", LINE, LINE + "\r", "\ufeff" + LINE, f"000009-{NAME}-{'n' * 300}:cat",
    f"000009-{NAME}-ж ü:cat", f"000009-{NAME}-{NAME}.json:cat", "٣-a-b:cat", "nan-a-b:cat", "{}", "[1, 2]",
    "000009,a,b,cat", f"000009-2009_000004-{NAME}:cat", f"000009-{NAME}-{NAME}:cat\x85", "\x00" * 40,
]  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    root = tmp_path_factory.mktemp("spair") / "data"
    return root, write_tree(root)


def read(root: Path) -> SPair71k:
    return SPair71k(root, symmetry="none")


def test_annotations(tree: tuple[Path, list[str]]) -> None:
    root, lines = tree
    path = root / "ImageAnnotation" / CATEGORY / f"{NAME}.json"
    whole = path.read_bytes()

    def check(mutation: Mutation) -> None:
        path.write_bytes(mutation.data)
        result = verdict(lambda: read(root), path, root / "JPEGImages" / CATEGORY / "Größe ß.jpg")
        if not isinstance(result, DataError):
            assert [pair.pair_id for pair in result] == lines
            says_what_is_written(result, json.loads(mutation.data))

    try:
        every(ANNOTATIONS, check)
    finally:
        path.write_bytes(whole)


def says_what_is_written(source: SPair71k, document: dict[str, Any]) -> None:
    (record,) = (image for image in source.images if image.image_id == f"{CATEGORY}/{NAME}")
    assert record.size == (document["image_height"], document["image_width"])
    assert record.path.name == document["filename"]
    assert record.azimuth == (-1 if document.get("azimuth_id") is None else document["azimuth_id"])
    points = [document["kps"][str(slot)] for slot in range(30)]
    assert record.visible.tolist() == [point is not None for point in points]
    np.testing.assert_allclose(record.xy_px, np.array([point or (0, 0) for point in points]), rtol=1e-6)
    x1, y1, x2, y2 = document["bndbox"]
    assert record.box_px == (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
    assert bool(source.notes) == (record.box_px != (x1, y1, x2, y2)), "a repair is noted, and nothing else"


@pytest.mark.parametrize("at", [0, 3, 8])
def test_lists(tree: tuple[Path, list[str]], at: int) -> None:
    root, lines = tree
    path = root / "Layout/large/test.txt"
    whole = path.read_bytes()

    def check(line: str) -> None:
        changed = [*lines[:at], line, *lines[at:]]
        path.write_bytes("\n".join(changed).encode())
        missing = line.removesuffix(":cat").split("-")[-2:]
        result = verdict(lambda: read(root), path, *(root / f"ImageAnnotation/cat/{name}.json" for name in missing))
        if not isinstance(result, DataError):
            assert [pair.pair_id for pair in result] == [line for line in changed if line]

    try:
        every(BAD_LINES, check)
    finally:
        path.write_bytes(whole)


def test_images(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"

    def check(mutation: Mutation) -> None:
        path.write_bytes(mutation.data)
        image = verdict(lambda: open_rgb(path), path)
        if not isinstance(image, DataError):
            assert image.mode == "RGB"
            assert np.asarray(image).dtype == np.uint8
        mask = verdict(lambda: open_mask(path, (40, 60)), path)
        assert isinstance(mask, DataError) or (mask.shape == (40, 60) and mask.dtype == bool)

    every(image_mutations(160), check)


@pytest.mark.parametrize(
    "gone",
    ["ImageAnnotation", "Layout", f"JPEGImages/{CATEGORY}", f"ImageAnnotation/{CATEGORY}", "Layout/large/test.txt"],
)
def test_missing_parts(tmp_path: Path, gone: str) -> None:
    write_tree(tmp_path)
    lost = tmp_path / gone
    lost.unlink() if lost.is_file() else shutil.rmtree(lost)
    with pytest.raises(DataError, match=r"geoalign prepare|correct the list"):
        read(tmp_path)


@pytest.mark.parametrize(
    "place", ["ImageAnnotation", "Layout/large/test.txt", f"ImageAnnotation/{CATEGORY}/{NAME}.json"]
)
def test_wrong_kind_of_entry(tmp_path: Path, place: str) -> None:
    write_tree(tmp_path)
    path = tmp_path / place
    if path.is_dir():
        shutil.rmtree(path)
        path.write_text("a file")
    else:
        path.unlink()
        path.mkdir()
    assert isinstance(verdict(lambda: read(tmp_path), path), DataError)


def test_there_are_enough_cases() -> None:
    assert len(ANNOTATIONS) + 3 * len(BAD_LINES) + 160 >= 500
