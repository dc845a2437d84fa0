"""Datasets: readers to pairs of annotated images, the datamodule, augmentation, preparation.

Readers are imported when first asked for, so that ``import geoalign.data`` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoalign.data.readers.spair import SPair71k as SPair71k
    from geoalign.data.readers.spair import SPairU as SPairU

READERS = {
    "SPair71k": "geoalign.data.readers.spair",
    "SPairU": "geoalign.data.readers.spair",
    "Livestock": "geoalign.data.readers.livestock",
    "AP10K": "geoalign.data.readers.ap10k",
    "PFPascal": "geoalign.data.readers.pf_pascal",
    "PFWillow": "geoalign.data.readers.pf_willow",
    "TSS": "geoalign.data.readers.tss",
    "Synthetic": "geoalign.data.readers.synthetic",
    "ImageFolder": "geoalign.data.readers.folder",
    "PseudoLabels": "geoalign.data.readers.pseudo",
}
"""Where each public reader lives."""

__all__ = list(READERS)


def __getattr__(name: str) -> Any:
    if name not in READERS:
        raise AttributeError(f"geoalign.data has no {name!r}; readers are {', '.join(READERS)}")
    return getattr(import_module(READERS[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *READERS])
