"""What backbones and refiners alike may do to frozen maps: take out what they share, whatever they show."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from geoalign.types import Maps


def centred(maps: Maps) -> Maps:
    """Maps less each view's own mean feature, which says more of the picture than of the places in it.

    The bars beside a picture count as well: leaving them out changes zero-shot scores by a tenth of a point.
    """
    return tuple(m - m.mean((-2, -1), keepdim=True) for m in maps)


def without(maps: Maps, bases: Sequence[Float[Tensor, "_ _"]]) -> Maps:
    """Maps projected onto the orthogonal complement of orthonormal directions, ``(c_i k)`` for each of them."""
    return tuple((m.flatten(2) - b @ (b.T @ m.flatten(2))).view_as(m) for m, b in zip(maps, bases, strict=True))
