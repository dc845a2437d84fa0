"""Synthetic benchmark: ray-cast animals and cars whose left and right look alike, with exact truth.

Names are imported when first asked for, so that ``import geoalign.synthetic`` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoalign.synthetic.coco import write_ap10k as write_ap10k
    from geoalign.synthetic.once import default_root as default_root
    from geoalign.synthetic.species import symmetry as symmetry
    from geoalign.synthetic.write import write_synthetic as write_synthetic

_HOMES = {"write_synthetic": "write", "write_ap10k": "coco"}
_HOMES |= {"default_root": "once", "symmetry": "species"}

__all__ = ["default_root", "symmetry", "write_ap10k", "write_synthetic"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"geoalign.synthetic has no {name!r}; there are {', '.join(_HOMES)}")
    return getattr(import_module(f"geoalign.synthetic.{_HOMES[name]}"), name)
