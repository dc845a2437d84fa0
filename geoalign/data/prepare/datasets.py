"""The catalogue: where each dataset comes from, what it must hold, how it is converted and opened."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geoalign.data.prepare.benchmark import Benchmark, Published, Source


def find(name: str) -> Benchmark:
    """The dataset of that name; a typo is answered with the nearest names."""
    if name not in CATALOGUE:
        near = difflib.get_close_matches(name, CATALOGUE, n=2, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(CATALOGUE)}"
        raise ValueError(f"no dataset is called {name!r}; {hint}")
    return CATALOGUE[name]


def _build_ap10k(root: Path, options: Mapping[str, str], progress: bool) -> str:
    from geoalign.data.readers.ap10k_lists import build

    tables = build(root, root / "is_crowd.txt")
    return f"built {len(tables)} pair lists of {sum(len(t.src) for t in tables.values()):,} pairs in {root / 'pairs'}"


def _build_livestock(root: Path, options: Mapping[str, str], progress: bool) -> str:
    from geoalign.data.prepare.livestock import build

    pairs = build(root, progress=progress)
    return f"built {', '.join(f'{count:,} {part}' for part, count in pairs.items())} pairs in {root}"


def _render(root: Path, options: Mapping[str, str], progress: bool) -> str:
    from geoalign.synthetic import write_synthetic
    from geoalign.synthetic.write import IMAGES

    for key, value in options.items():
        if not value.isdecimal():
            raise ValueError(f"{key} is a whole number, got {value!r}")
    share = int(options["images"]) / IMAGES["trn"] if "images" in options else 1.0
    images = {split: max(2, round(count * share)) for split, count in IMAGES.items()}
    write_synthetic(root, int(options.get("seed", "0")), images, progress=progress)
    told = ", ".join(f"{count} {split}" for split, count in images.items())
    return f"rendered {told} images per category in {root}"


def _ap10k_inventory(root: Path) -> dict[str, tuple[int, int]]:
    from geoalign.data.readers.ap10k_animals import read_annotations

    animals = read_annotations(root)
    families, species = ({getattr(a, key) for a in animals} for key in ("family", "species"))
    return {
        "annotated images": (len(animals), 10_015),
        "families": (len(families), 23),
        "species": (len(species), 54),
    }


def _archive(url: str, file: str = "", **facts: Any) -> Source:
    """An archive with one folder of its own name."""
    file = file or url.rpartition("/")[2]
    return Source(file, url, strip=file.partition(".")[0], **facts)


def _list(url: str, file: str = "", **facts: Any) -> Source:
    return Source(file or url.rpartition("/")[2], url, unpack=False, **facts)


PF = "https://www.di.ens.fr/willow/research"
PF_HOME, PF_LISTS = f"{PF}/proposalflow", f"{PF}/cnngeometric/other_resources"
DRIVE = "https://drive.google.com/file/d"
CROWD = _list(
    "https://raw.githubusercontent.com/Junyi42/GeoAware-SC/master/data/ap-10k_is_crowd.txt",
    "is_crowd.txt",
    checksum="sha256:64444a59008ec9402b9409dce6234af946a2f480a8348d1751d22af10c812ee6",
)
SPLITS = ("trn", "val", "test")
LENIENT = {"require_images": False}  # verifying lists every missing image
AP10K_PARTS = {
    f"{split} {setting}": {"split": split, "setting": setting, **LENIENT}
    for setting in ("intra_species", "cross_species", "cross_family")
    for split in ("train", "val", "test")
    if split != "train" or setting == "intra_species"
}

_ALL = (
    Benchmark(
        "spair71k", "SPair-71k", "https://cvlab.postech.ac.kr/research/SPair-71k",
        "not stated; images from PASCAL VOC (Flickr terms)", "SPair71k",
        parts={split: {"split": split, **LENIENT} for split in SPLITS},
        sources=(_archive("https://cvlab.postech.ac.kr/research/SPair-71k/data/SPair-71k.tar.gz"),),
        expected=("ImageAnnotation", "PairAnnotation", "JPEGImages", "Layout", "Segmentation"),
        published=tuple(Published((s,), n) for s, n in zip(SPLITS, (53_340, 5_384, 12_234), strict=True)),
        images=1_800, layout="spair",
    ),
    Benchmark(
        "spair_u", "SPair-U", "https://github.com/VICO-UoE/JamaisVu", "not stated; images from SPair-71k", "SPairU",
        parts={"test": {"split": "test", **LENIENT}},
        sources=(_archive("https://groups.inf.ed.ac.uk/hbilen-data/data/JamaisVuData/SPair-U.zip"),),
        options=("images_root",), beside={"images_root": "spair71k"}, layout="spair",
    ),
    Benchmark(
        "ap10k", "AP-10K", "https://github.com/AlexTheBad/AP-10K", "CC BY 4.0", "AP10K", AP10K_PARTS,
        sources=(_archive(f"{DRIVE}/1-FNNGcdtAQRehYYkGY1y4wzFNg4iWNad/view", "ap-10k.zip", by_hand=True), CROWD),
        expected=("annotations", "data", "is_crowd.txt"),
        published=(
            Published(("train intra_species",), 261_000, 1000),
            Published(tuple(part for part in AP10K_PARTS if part.startswith("val")), 17_000, 1000),
            Published(tuple(part for part in AP10K_PARTS if part.startswith("test")), 36_000, 1000),
        ),
        convert=_build_ap10k, inventory=_ap10k_inventory,
    ),
    Benchmark(
        "livestock", "Livestock", "https://github.com/yww0411/Livestock-keypoint-detection", "CC BY 4.0", "Livestock",
        parts={split: {"split": split, **LENIENT} for split in (*SPLITS, "unseen")},
        sources=(
            Source(
                "Livestock-keypoint-detection.tar.gz",
                "https://codeload.github.com/yww0411/Livestock-keypoint-detection/tar.gz/HEAD",
                strip="Livestock-keypoint-detection-*", into="original",
            ),
        ),
        expected=("original/data_process",),
        published=tuple(Published((s,), n) for s, n in zip(SPLITS, (3_600, 450, 1_200), strict=True)),
        layout="spair", made=("Layout", "unseen/Layout"), convert=_build_livestock,
    ),
    Benchmark(
        "pf_pascal", "PF-PASCAL", PF_HOME, "not stated; images from PASCAL VOC (Flickr terms)", "PFPascal",
        parts={split: {"split": split} for split in ("train", "val", "test")},
        sources=(
            _archive(f"{PF_HOME}/dataset/PF-dataset-PASCAL.zip"),
            *(_list(f"{PF_LISTS}/{split}_pairs_pf_pascal.csv") for split in ("val", "test")),
            _list(
                f"{DRIVE}/111tpXshLiJ4qudBHoGK3HbMSNr9vVRq9/view", "trn_pairs_pf_pascal.csv",
                by_hand=True, optional=True,
            ),
        ),
        expected=("Annotations", "JPEGImages", "val_pairs_pf_pascal.csv", "test_pairs_pf_pascal.csv"),
        published=(Published(("val",), 308), Published(("test",), 299)),
        layout="pf_pascal",
    ),
    Benchmark(
        "pf_willow", "PF-WILLOW", PF_HOME, "not stated", "PFWillow", {"test": {}},
        sources=(_archive(f"{PF_HOME}/dataset/PF-dataset.zip"), _list(f"{PF_LISTS}/test_pairs_pf.csv")),
        expected=("car(G)", "test_pairs_pf.csv"), published=(Published(("test",), 900),), images=100,
    ),
    Benchmark(
        "tss", "TSS", "https://taniai.space/projects/cvpr16_dccs",
        "not stated; images of FG3DCar, JODS and PASCAL", "TSS", {"test": {}},
        sources=(_archive("https://taniai.space/projects/cvpr16_dccs/TSS_CVPR2016.zip"),),
        expected=("FG3DCar", "JODS", "PASCAL"),
        published=(Published(("test",), 800),),  # 400 image pairs, both ways
        scratch="mirror_dir",
    ),
    Benchmark(
        "synthetic", "Synthetic", "docs/data.md", "Apache-2.0, as geoalign", "SPair71k",
        parts={split: {"split": split, "name": "synthetic", **LENIENT} for split in SPLITS},
        layout="spair", making=("images", "seed"), convert=_render,
    ),
    Benchmark(
        "folder", "Your own images", "docs/data.md", "yours", "ImageFolder", {"all": {}},
        options=("keypoints", "masks", "symmetry", "category", "threshold"),
    ),
)  # fmt: skip
CATALOGUE: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}
