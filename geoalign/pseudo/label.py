"""From photographs of one kind each to sets of them with points that match."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from geoalign.data.readers.pseudo import COLUMNS
from geoalign.data.records import ImageRecord
from geoalign.geometry import FRAME_PX, unletterbox_points
from geoalign.pseudo.chains import Order, chains, spread, survivors
from geoalign.pseudo.facing import Facing, facing, likeness
from geoalign.pseudo.links import Comparison, Filter, Link, link
from geoalign.pseudo.subjects import Subject

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Labeller:
    """How sets are chosen and what is kept of them.

    Args:
        size: photographs of a chain; 2: pairs
        order: random: any photographs, so that many face opposite ways | likeness: on to one of the most alike,
            mirrored where that is nearer | azimuth: round the object, where all photographs say their azimuth
        per_image: chains that start at each photograph
        points: at most so many of a set, spread over the subject
        fewest: points; sets with fewer are left out
        mirror: mirror photographs so that all face one way, before they are matched (not where order=azimuth)
        opposite: weight of a set's points once more with its photographs as they are, facing either way, where they do;
            0: not. Right for what both sides show alike, wrong for a near leg and a far one
        filters: by name; null: none
        seed: of the chains

    Raises:
        ValueError: sizes and numbers that make no set.
    """

    size: int = 3
    order: Order = "random"
    per_image: int = 2
    points: int = 64
    fewest: int = 4
    mirror: bool = True
    opposite: float = 1.0
    filters: Mapping[str, Filter | None] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 2 or self.per_image < 1 or self.fewest < 2 or self.points < self.fewest:
            raise ValueError(
                "pseudo-labels need size >= 2, per_image >= 1 and points >= fewest >= 2, got "
                f"{self.size}, {self.per_image}, {self.points} and {self.fewest}"
            )
        if self.order not in ("azimuth", "likeness", "random"):
            raise ValueError(f"order is azimuth, likeness or random, got {self.order!r}")
        if not 0 <= self.opposite <= 1:
            raise ValueError(f"opposite is a weight from 0 to 1, got {self.opposite}")

    def kinds(self, records: Sequence[ImageRecord], subjects: Sequence[Subject]) -> Labelled:
        """Every category for itself; photographs in the order of ``records``."""
        rows: list[Set] = []
        mirrored, agreement = np.zeros(len(records), bool), np.ones(len(records))
        left_out: Counter[str] = Counter()
        for category in sorted({record.category for record in records}):
            own = [at for at, record in enumerate(records) if record.category == category]
            sets, faces = self.kind([records[at] for at in own], [subjects[at] for at in own])
            mirrored[own], agreement[own] = faces.mirrored, faces.agreement
            kept = [
                one._replace(images=tuple(own[at] for at in one.images)) for one in sets if one.points >= self.fewest
            ]
            left_out[category] += len(sets) - len(kept)
            rows += kept
            rows += [one.as_they_are(self.opposite) for one in kept if self.opposite and len(set(one.mirrored)) > 1]
        return Labelled(rows, Facing(mirrored, agreement), dict(left_out))

    def kind(self, records: Sequence[ImageRecord], subjects: Sequence[Subject]) -> tuple[list[Set], Facing]:
        """Sets of the photographs of one category, also those with too few points, and which are mirrored."""
        n = len(records)
        like = likeness(subjects, seed=self.seed)
        plain = Facing(np.zeros(n, bool), np.ones(n))
        faces = facing(like) if self.mirror and self.order != "azimuth" and n > 1 else plain
        azimuth = np.array([record.azimuth for record in records], int)
        if self.order == "azimuth" and (azimuth < 0).any():
            raise ValueError("order=azimuth needs photographs that say their azimuth; set order=random")
        names = [record.image_id for record in records]
        filters = [one for one in self.filters.values() if one is not None]
        links: dict[tuple[int, int], Link] = {}

        def linked(a: int, b: int) -> Link:
            if (a, b) not in links:
                ends = (names[a], names[b]), (subjects[a], subjects[b])
                turned = bool(faces.mirrored[a]), bool(faces.mirrored[b])
                links[a, b] = link(Comparison(*ends, turned), filters)
            return links[a, b]

        wanted = chains(self.order, self.size, self.per_image * n, like.best, azimuth, self.seed)
        return [self._set(chain, subjects, faces, linked) for chain in dict.fromkeys(wanted)], faces

    def _set(
        self, chain: tuple[int, ...], subjects: Sequence[Subject], faces: Facing, linked: Callable[[int, int], Link]
    ) -> Set:
        first = subjects[chain[0]].upright

        def closed(cells: torch.Tensor) -> torch.Tensor:
            return (first.xy_px[cells[0]] - first.xy_px[cells[1]]).norm(dim=1) / first.extent_px

        cells, weight = survivors(chain, linked, closed)
        keep = spread(first.xy_px[cells[:, 0]], self.points, weight)
        places = [subjects[at].upright.xy_px[cells[keep, place]] for place, at in enumerate(chain)]
        return Set(chain, tuple(bool(faces.mirrored[at]) for at in chain), torch.stack(places, 1), weight[keep])


class Set(NamedTuple):
    """Photographs by number, which of them are mirrored, and ``k`` points in each: px of the upright frame."""

    images: tuple[int, ...]
    mirrored: tuple[bool, ...]
    xy_px: torch.Tensor  # (k n 2)
    weight: torch.Tensor  # (k)

    def as_they_are(self, weight: float) -> Set:
        """The same points with no photograph mirrored, their weights times ``weight``."""
        return self._replace(mirrored=(False,) * len(self.mirrored), weight=weight * self.weight)

    @property
    def points(self) -> int:
        """Points."""
        return len(self.weight)


class Labelled(NamedTuple):
    """The sets with points enough, which photographs are mirrored, and how many sets of a category had too few."""

    sets: list[Set]
    facing: Facing
    left_out: Mapping[str, int]


def table(sets: Iterable[Set], records: Sequence[ImageRecord], frame_px: int = FRAME_PX) -> pd.DataFrame:
    """The rows of a file of pseudo-labels, px of the photographs."""
    import pandas as pd

    rows: dict[str, list[object]] = {name: [] for name in COLUMNS}
    for number, one in enumerate(sets):
        for place, (at, mirrored) in enumerate(zip(one.images, one.mirrored, strict=True)):
            xy = unletterbox_points(one.xy_px[:, place], records[at].size, frame_px, records[at].framing)
            for point, ((x, y), weight) in enumerate(zip(xy.tolist(), one.weight.tolist(), strict=True)):
                facts = number, records[at].image_id, mirrored, point, x, y, weight
                for name, value in zip(COLUMNS, facts, strict=True):
                    rows[name].append(value)
    return pd.DataFrame({name: pd.Series(rows[name], dtype=kind) for name, kind in COLUMNS.items()})


def facts(records: Iterable[ImageRecord], root: Path) -> dict[str, dict[str, object]]:
    """What the file keeps of each image; paths relative to ``root`` where they lie below it."""
    base = root.resolve()

    def path(record: ImageRecord) -> str:
        whole = record.path.resolve()
        return whole.relative_to(base).as_posix() if whole.is_relative_to(base) else whole.as_posix()

    return {
        r.image_id: {"path": path(r), "size": list(r.size), "category": r.category, "box": [float(v) for v in r.box_px]}
        for r in records
    }
