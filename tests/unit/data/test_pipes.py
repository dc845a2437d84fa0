"""A named pipe in place of any file of any dataset is an error at once: nothing waits for somebody to write."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.fuzz import within
from helpers.spair_tree import annotation, pair_annotation, put, write_tree
from PIL import Image
from test_ap10k import coco, released, write  # noqa: F401 (released: a fixture)
from test_folder import CSV, POINTS, TABLE
from test_pf import pascal, picture, willow  # noqa: F401 (pascal, willow: fixtures)
from test_tss import root as tss  # noqa: F401 (a fixture)

from geoalign.data.prepare.checks import check_image, check_pair_file
from geoalign.data.readers.ap10k import AP10K
from geoalign.data.readers.folder import ImageFolder
from geoalign.data.readers.pf_pascal import PFPascal
from geoalign.data.readers.pf_willow import PFWillow
from geoalign.data.readers.spair import SPair71k, SPairU
from geoalign.data.readers.tss import TSS
from geoalign.data.records import DataError, PairSource
from geoalign.data.symmetry_table import read_symmetries

READERS: dict[str, Callable[[Path], PairSource]] = {
    "spair": lambda root: SPair71k(root),
    "spair_u": lambda root: SPairU(root, images_root=root),
    "ap10k": lambda root: AP10K(root, setting="all_pairs"),
    "ap10k_built": lambda root: AP10K(root, "val", crowd_sha256=None, require_images=False),
    "released": lambda root: AP10K(root, "train", pairs="released"),
    "pascal": PFPascal,
    "willow": PFWillow,
    "tss": lambda root: TSS(root, mirror_dir=root.parent / "mirrored"),
    "folder_csv": lambda root: ImageFolder(root, keypoints="points.csv", symmetry="table.yaml", masks="masks"),
    "folder_json": lambda root: ImageFolder(root, keypoints="points.json"),
}

UNUSED = dict.fromkeys(READERS, ()) | {
    "released": ("/val/", "/test_", "Felidae"),
    "pascal": ("trn_", "val_"),
    "willow": ("duck",),
}
"""Files of other splits and of no pair."""


@pytest.fixture
def spair(tmp_path: Path) -> Path:
    write_tree(tmp_path)
    mask = tmp_path / "Segmentation/cat/2008_000002.png"
    mask.parent.mkdir(parents=True)
    Image.new("L", (61, 42), 255).save(mask)
    return tmp_path


@pytest.fixture
def spair_u(tmp_path: Path) -> Path:
    images = [annotation("cat", f"2008_00000{i + 1}", i) for i in range(2)]
    for document in images:
        put(tmp_path / f"ImageAnnotation/cat/{Path(document['filename']).stem}.json", json.dumps(document))
        picture(tmp_path / "JPEGImages/cat" / document["filename"], (document["image_width"], document["image_height"]))
    name = "000001-2008_000001-2008_000002:cat"
    put(tmp_path / f"PairAnnotation/test/{name}.json", json.dumps(pair_annotation(1, *images)))
    return tmp_path


@pytest.fixture
def ap10k(tmp_path: Path) -> Path:
    write(tmp_path, coco())
    for image in coco()["images"]:
        picture(tmp_path / "data" / image["file_name"], (image["width"], image["height"]))
    return tmp_path


@pytest.fixture
def ap10k_built(tmp_path: Path) -> Path:
    import ap10k_tree

    return ap10k_tree.write(tmp_path, ap10k_tree.documents(300, extra=5), [1])


@pytest.fixture
def folder_csv(tmp_path: Path) -> Path:
    for image in POINTS:
        picture(tmp_path / image)
        picture((tmp_path / "masks" / image).with_suffix(".png"))
    put(tmp_path / "points.csv", "\n".join(CSV))
    put(tmp_path / "table.yaml", TABLE)
    return tmp_path


@pytest.fixture
def folder_json(tmp_path: Path) -> Path:
    for image in POINTS:
        picture(tmp_path / image)
    put(tmp_path / "points.json", json.dumps(POINTS))
    return tmp_path


def errors(read: Callable[[], PairSource]) -> Iterator[str]:
    """What reading everything complains about: the source, its pictures and masks, its pair files."""
    try:
        source = read()
    except DataError as error:
        yield str(error)
        return
    findings = [finding for image in source.images if image.path.exists() for finding in check_image(image)]
    if isinstance(source, SPair71k):
        findings += [finding for index in range(len(source)) for finding in check_pair_file(source, index)]
    yield from (f"{finding.where} {finding.detail}" for finding in findings if finding.severity == "error")


@pytest.mark.parametrize("name", READERS)
def test_any_file_that_is_a_pipe_is_named_at_once(name: str, request: pytest.FixtureRequest) -> None:
    root: Path = request.getfixturevalue(name)
    if name == "released":
        for path in root.glob("ImageAnnotation/*/*/*.json"):
            picture(root / "JPEGImages" / path.relative_to(root / "ImageAnnotation").with_suffix(".jpg"), (60, 50))
    read = READERS[name]
    assert list(errors(lambda: read(root))) == []
    reported = [str(path) for path in sorted(root.rglob("*")) if path.is_file()]
    reported = [path for path in reported if not any(part in path.removeprefix(str(root)) for part in UNUSED[name])]
    assert len(reported) > 2
    for path in reported:
        os.rename(path, path + ".aside")
        os.mkfifo(path)
        with within(20):
            assert any(path in text for text in errors(lambda: read(root))), path
        os.replace(path + ".aside", path)


def test_mirror_tables_too(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "table.yaml")
    with within(20), pytest.raises(DataError, match=r"table\.yaml: file: expected a regular file, got a named pipe"):
        read_symmetries(tmp_path / "table.yaml", 30, ["cat"])
