"""The catalogue: where each dataset comes from, what it must hold, how it is converted and opened."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

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


PF = "https://www.di.ens.fr/willow/research"
PF_DATA = f"{PF}/proposalflow/dataset"
PF_LISTS = f"{PF}/cnngeometric/other_resources"
TLR_CROWD = "https://raw.githubusercontent.com/Junyi42/GeoAware-SC/master/data/ap-10k_is_crowd.txt"
SPLITS = ("trn", "val", "test")
UNCACHED = {"index_cache": False, "require_images": False}  # verifying reads afresh and lists every missing image
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
        licence="not stated; images from PASCAL VOC (Flickr terms)",
        reader="SPair71k",
        parts={split: {"split": split, **UNCACHED} for split in SPLITS},
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
        layout="spair",
    ),
    Benchmark(
        name="spair_u",
        title="SPair-U",
        home="https://github.com/VICO-UoE/JamaisVu",
        licence="not stated; images from SPair-71k",
        reader="SPairU",
        parts={"test": {"split": "test", **UNCACHED}},
        sources=(
            Source(
                "SPair-U.zip", "https://groups.inf.ed.ac.uk/hbilen-data/data/JamaisVuData/SPair-U.zip", strip="SPair-U"
            ),
        ),
        options=("images_root",),
        beside={"images_root": "spair71k"},
        layout="spair",
    ),
    Benchmark(
        name="ap10k",
        title="AP-10K",
        home="https://github.com/AlexTheBad/AP-10K",
        licence="CC BY 4.0",
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
                "sha256:64444a59008ec9402b9409dce6234af946a2f480a8348d1751d22af10c812ee6",
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
    Benchmark(
        name="pf_pascal",
        title="PF-PASCAL",
        home="https://www.di.ens.fr/willow/research/proposalflow",
        licence="not stated; images from PASCAL VOC (Flickr terms)",
        reader="PFPascal",
        parts={split: {"split": split} for split in ("train", "val", "test")},
        sources=(
            Source(
                "PF-dataset-PASCAL.zip", f"{PF}/proposalflow/dataset/PF-dataset-PASCAL.zip", strip="PF-dataset-PASCAL"
            ),
            Source("val_pairs_pf_pascal.csv", f"{PF_LISTS}/val_pairs_pf_pascal.csv", unpack=False),
            Source("test_pairs_pf_pascal.csv", f"{PF_LISTS}/test_pairs_pf_pascal.csv", unpack=False),
            Source(
                "trn_pairs_pf_pascal.csv",
                "https://drive.google.com/file/d/111tpXshLiJ4qudBHoGK3HbMSNr9vVRq9/view",
                unpack=False,
                by_hand=True,
                optional=True,
            ),
        ),
        expected=("Annotations", "JPEGImages", "val_pairs_pf_pascal.csv", "test_pairs_pf_pascal.csv"),
        published=(Published(("val",), 308), Published(("test",), 299)),
        layout="pf_pascal",
    ),
    Benchmark(
        name="pf_willow",
        title="PF-WILLOW",
        home="https://www.di.ens.fr/willow/research/proposalflow",
        licence="not stated",
        reader="PFWillow",
        parts={"test": {}},
        sources=(
            Source("PF-dataset.zip", f"{PF_DATA}/PF-dataset.zip", strip="PF-dataset"),
            Source("test_pairs_pf.csv", f"{PF_LISTS}/test_pairs_pf.csv", unpack=False),
        ),
        expected=("car(G)", "test_pairs_pf.csv"),
        published=(Published(("test",), 900),),
        images=100,
    ),
    Benchmark(
        name="tss",
        title="TSS",
        home="https://taniai.space/projects/cvpr16_dccs",
        licence="not stated; images of FG3DCar, JODS and PASCAL",
        reader="TSS",
        parts={"test": {}},
        sources=(
            Source(
                "TSS_CVPR2016.zip",
                "https://taniai.space/projects/cvpr16_dccs/TSS_CVPR2016.zip",
                strip="TSS_CVPR2016",
            ),
        ),
        expected=("FG3DCar", "JODS", "PASCAL"),
        published=(Published(("test",), 800),),  # 400 image pairs, both ways
        scratch="mirror_dir",
    ),
    Benchmark(
        name="synthetic",
        title="Synthetic",
        home="docs/data.md",
        licence="Apache-2.0, as geoalign",
        reader="SPair71k",
        parts={split: {"split": split, "name": "synthetic", **UNCACHED} for split in SPLITS},
        layout="spair",
        making=("images", "seed"),
        convert=_render,
    ),
    Benchmark(
        name="folder",
        title="Your own images",
        home="docs/data.md",
        licence="yours",
        reader="ImageFolder",
        parts={"all": {}},
        options=("keypoints", "masks", "symmetry", "category", "threshold"),
    ),
)
CATALOGUE: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}
