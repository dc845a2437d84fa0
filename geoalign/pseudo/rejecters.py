"""Filters that know more than features do: predictions that somebody else made, read from a file.

An npz file holds one array per photograph, named by its id; it covers the whole photograph at any resolution, and is
read where a cell's centre lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geoalign.data.records import DataError
from geoalign.pseudo.links import Comparison

Place = Callable[[str, Float[Tensor, "k 2"]], Float[Tensor, "k 2"]]
"""A photograph's id and points of its upright frame (px) to shares (0 to 1) of the photograph's width and height."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """An npz file of predictions; arrays are read when asked for.

    Raises:
        DataError: no such file, no array of a photograph, or one of another shape.
    """

    path: Path
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.path.is_file():
            raise DataError.at(self.path, "file", "an npz file of predictions", "no such file", "correct the path")

    def of(self, name: str, shape: tuple[int | None, ...]) -> Float[Tensor, "..."]:
        """The array of that name; None in ``shape`` is any size."""
        if name not in self.arrays:
            with np.load(self.path, allow_pickle=False) as file:
                if name not in file:
                    raise DataError.at(self.path, name, "an array of that name", "none", "predict it, or leave it out")
                self.arrays[name] = np.asarray(file[name], np.float32)
        array = self.arrays[name]
        fits = array.ndim == len(shape) and all(
            want in (None, got) for want, got in zip(shape, array.shape, strict=True)
        )
        if not fits or not np.isfinite(array).all():
            raise DataError.at(
                self.path, name, f"finite numbers of shape {shape}", str(array.shape), "predict it again"
            )
        return torch.from_numpy(array)

    def at(self, name: str, shape: tuple[int | None, ...], share: Float[Tensor, "k 2"]) -> Float[Tensor, "k ..."]:
        """Values of a map ``(h w …)`` at shares of its width and height."""
        values = self.of(name, shape)
        h, w = values.shape[:2]
        x = (share[:, 0] * w).long().clamp(0, w - 1)
        y = (share[:, 1] * h).long().clamp(0, h - 1)
        return values[y, x]


@dataclass(frozen=True, eq=False)
class Sphere:
    """Matched cells lie near each other on a sphere that a mapper predicts (DIY-SC: within 0.15 pi).

    Arrays ``(h w 3)`` of unit length; the first axis points to the object's left, and is turned round in mirror images.

    Args:
        predictions: the npz file
        angle: at most, shares of pi
    """

    predictions: str
    angle: float = 0.15
    place: Place | None = None

    def __call__(self, pair: Comparison) -> Bool[Tensor, "k"]:
        """Which matches are kept."""
        assert self.place is not None, "the pass says where photographs lie"
        file = Predictions(Path(self.predictions))
        turn, found = torch.tensor([-1.0, 1.0, 1.0]), []
        for name, subject, mirrored in zip(pair.names, pair.subjects, pair.mirrored, strict=True):
            here = file.at(name, (None, None, 3), self.place(name, subject.upright.xy_px))
            found.append(torch.nn.functional.normalize(here * turn if mirrored else here, dim=1))
        cosine = (found[0] * found[1][pair.nearest]).sum(1)
        return cosine >= math.cos(self.angle * math.pi)


@dataclass(frozen=True, eq=False)
class Orientation:
    """Both photographs show the object from about the same side, by a predicted azimuth; else nothing is kept.

    Arrays ``(1)``: degrees, 0 from the front and 90 from the object's left; a mirror image has the opposite sign.

    Args:
        predictions: the npz file
        degrees: at most so far apart
    """

    predictions: str
    degrees: float = 60.0

    def __call__(self, pair: Comparison) -> Bool[Tensor, "k"]:
        """Which matches are kept."""
        file = Predictions(Path(self.predictions))
        src, trg = (
            float(file.of(name, (1,))) * (-1 if mirrored else 1)
            for name, mirrored in zip(pair.names, pair.mirrored, strict=True)
        )
        apart = abs((src - trg + 180) % 360 - 180)
        return torch.full((len(pair.nearest),), apart <= self.degrees)


@dataclass(frozen=True, eq=False)
class Geodesic:
    """Matched cells lie near each other on the surface of one mesh (3D-SC: within 0.05 of its diagonal).

    Arrays ``(h w)``: the number of the mesh's vertex that a place shows, -1 for none. Beside them ``distance (v v)``,
    geodesic distances as shares of the diagonal, and ``mirror (v)``, the mirror image of each vertex.

    Args:
        predictions: the npz file
        within: at most, shares of the mesh's diagonal
    """

    predictions: str
    within: float = 0.05
    place: Place | None = None

    def __call__(self, pair: Comparison) -> Bool[Tensor, "k"]:
        """Which matches are kept."""
        assert self.place is not None, "the pass says where photographs lie"
        file = Predictions(Path(self.predictions))
        mirror, found = file.of("mirror", (None,)).long(), []
        for name, subject, mirrored in zip(pair.names, pair.subjects, pair.mirrored, strict=True):
            vertex = file.at(name, (None, None), self.place(name, subject.upright.xy_px)).long()
            found.append(torch.where(vertex >= 0, mirror[vertex.clamp(min=0)], vertex) if mirrored else vertex)
        src, trg = found[0], found[1][pair.nearest]
        distance = file.of("distance", (len(mirror), len(mirror)))
        return (src >= 0) & (trg >= 0) & (distance[src.clamp(min=0), trg.clamp(min=0)] <= self.within)
