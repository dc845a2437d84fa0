"""The catalogue: where each dataset comes from, what it must hold, how it is converted and opened."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import geoalign.data
from geoalign.data.prepare.download import Checksum
from geoalign.data.records import PairSource


class Source(NamedTuple):
    """A file to fetch into the dataset's folder; ``by_hand`` where the host serves no plain download."""

    file: str
    url: str
    checksum: Checksum | None = None
    unpack: bool = True
    strip: str = ""
    by_hand: bool = False


class Published(NamedTuple):
    """A count of pairs from a dataset's paper, over one part or the sum of several."""

    parts: tuple[str, ...]
    pairs: int
    nearest: int = 1  # the published number is rounded to this


class Benchmark(NamedTuple):
    """One dataset.

    ``expected`` are the paths that show it is unpacked; ``parts`` are the reader's arguments per part. The command
    line may give the reader's ``options`` and those for ``making``. ``convert`` works on the unpacked folder and says
    what it did; ``inventory`` counts what the reader does not: name to (found, published).
    """

    name: str
    title: str
    home: str
    licence: str
    folder: str
    reader: str
    parts: Mapping[str, Mapping[str, Any]]
    sources: tuple[Source, ...] = ()
    expected: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()
    images: int | None = None
    options: tuple[str, ...] = ()
    making: tuple[str, ...] = ()
    spair_layout: bool = False
    convert: Callable[[Path, Mapping[str, str]], str] | None = None
    inventory: Callable[[Path], Mapping[str, tuple[int, int]]] | None = None

    def open(self, part: str, root: Path, options: Mapping[str, str]) -> PairSource:
        """The reader of one part; raises ``DataError`` where the folder is not sound enough to read."""
        reader: Callable[..., PairSource] = getattr(geoalign.data, self.reader)
        return reader(root=root, **self.parts[part], **options)


def find(name: str) -> Benchmark:
    """The dataset of that name; a typo is answered with the nearest names."""
    if name not in CATALOGUE:
        near = difflib.get_close_matches(name, CATALOGUE, n=2, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(CATALOGUE)}"
        raise ValueError(f"no dataset is called {name!r}; {hint}")
    return CATALOGUE[name]


def _build_ap10k(root: Path, options: Mapping[str, str]) -> str:
    from geoalign.data.ap10k_build import build

    tables = build(root, root / "is_crowd.txt")
    return f"built {len(tables)} pair lists of {sum(len(t.src) for t in tables.values()):,} pairs in {root / 'pairs'}"


def _ap10k_inventory(root: Path) -> dict[str, tuple[int, int]]:
    from geoalign.data.ap10k_pairs import read_annotations

    animals = read_annotations(root)
    families, species = ({getattr(a, key) for a in animals} for key in ("family", "species"))
    return {
        "annotated images": (len(animals), 10_015),
        "families": (len(families), 23),
        "species": (len(species), 54),
    }


PF = "https://www.di.ens.fr/willow/research"
TLR_CROWD = "https://raw.githubusercontent.com/Junyi42/GeoAware-SC/master/data/ap-10k_is_crowd.txt"
SPLITS = ("trn", "val", "test")
AP10K_PARTS = {
    f"{split} {setting}": {"split": split, "setting": setting, "require_images": False}
    for setting, splits in (
        ("intra_species", ("train", "val", "test")),
        ("cross_species", ("val", "test")),
        ("cross_family", ("val", "test")),
    )
    for split in splits
}

_ALL = (
    Benchmark(
        name="spair71k",
        title="SPair-71k",
        home="https://cvlab.postech.ac.kr/research/SPair-71k",
        licence="research use; images from PASCAL VOC (Flickr terms)",
        folder="SPair-71k",
        reader="SPair71k",
        parts={split: {"split": split, "index_cache": False, "require_images": False} for split in SPLITS},
        sources=(
            Source(
                "SPair-71k.tar.gz",
                "https://cvlab.postech.ac.kr/research/SPair-71k/data/SPair-71k.tar.gz",
                strip="SPair-71k",
            ),
        ),
        expected=("ImageAnnotation", "PairAnnotation", "JPEGImages", "Layout", "Segmentation"),
        published=tuple(Published((s,), n) for s, n in zip(SPLITS, (53_340, 5_384, 12_234), strict=True)),
        images=1_800,
        spair_layout=True,
    ),
    Benchmark(
        name="spair_u",
        title="SPair-U",
        home="https://github.com/VICO-UoE/JamaisVu",
        licence="not stated; images from SPair-71k",
        folder="SPair-U",
        reader="SPairU",
        parts={"test": {"split": "test", "index_cache": False, "require_images": False}},
        sources=(
            Source(
                "SPair-U.zip", "https://groups.inf.ed.ac.uk/hbilen-data/data/JamaisVuData/SPair-U.zip", strip="SPair-U"
            ),
        ),
        options=("images_root",),
        spair_layout=True,
    ),
    Benchmark(
        name="ap10k",
        title="AP-10K",
        home="https://github.com/AlexTheBad/AP-10K",
        licence="CC BY 4.0",
        folder="ap10k",
        reader="AP10K",
        parts=AP10K_PARTS,
        sources=(
            Source(
                "ap-10k.zip",
                "https://drive.google.com/file/d/1-FNNGcdtAQRehYYkGY1y4wzFNg4iWNad/view",
                strip="ap-10k",
                by_hand=True,
            ),
            Source(
                "is_crowd.txt",
                TLR_CROWD,
                Checksum("sha256", "64444a59008ec9402b9409dce6234af946a2f480a8348d1751d22af10c812ee6"),
                unpack=False,
            ),
        ),
        expected=("annotations", "data", "is_crowd.txt"),
        published=(
            Published(("train intra_species",), 261_000, 1000),
            Published(tuple(part for part in AP10K_PARTS if part.startswith("val")), 17_000, 1000),
            Published(tuple(part for part in AP10K_PARTS if part.startswith("test")), 36_000, 1000),
        ),
        convert=_build_ap10k,
        inventory=_ap10k_inventory,
    ),
)
CATALOGUE: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}
