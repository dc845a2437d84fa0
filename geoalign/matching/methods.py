"""Methods of prediction: what each needs of views, and a function from a bank and rows to predictions."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geoalign.bank import Bank
from geoalign.geometry import UPRIGHT, Pose
from geoalign.matching.pose import Distance, choose_pose, pose_distances, transfer_posed
from geoalign.matching.pose_constellation import Landed, answers, land
from geoalign.matching.transfer import Matcher, transfer
from geoalign.types import Matches, Prediction, Rows

POSES = {
    "flip": ("upright", "flip"),
    "rotate": ("upright", "flip", "rot90", "rot180", "rot270"),  # flips and quarter turns, as the paper writes
}
"""Sets of poses by name."""
DISTANCES = ("auto", "masked", "constellation", "mutual", "released")


class Method(ABC):
    """A method of prediction. ``poses`` of the source are the views it asks for; it never sees the truth."""

    name: ClassVar[str]
    poses: tuple[Pose, ...] = (UPRIGHT,)
    mask_side: int | None = None
    """Px at which it wants the subject's masks; None: it wants none."""
    masks: str = "dataset"
    """Where images get a mask that the dataset has none for."""

    def __call__(self, bank: Bank, rows: Rows, matcher: Matcher) -> Prediction:
        """Choose a pose of each row's source, and predict from it."""
        return self.match(bank, rows, self.choose(bank, rows), matcher)

    def choose(self, bank: Bank, rows: Rows) -> Int[Tensor, "b"]:
        """Index of a pose per row; here upright."""
        return torch.zeros_like(rows["src"])

    @abstractmethod
    def match(self, bank: Bank, rows: Rows, choice: Int[Tensor, "b"], matcher: Matcher) -> Prediction:
        """Predict the wanted slots of every row from its chosen pose."""

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """What a result says of it, as plain data."""


@dataclass(frozen=True)
class Plain(Method):
    """Every keypoint from the upright source, one look."""

    name: ClassVar[str] = "plain"

    def match(self, bank: Bank, rows: Rows, choice: Int[Tensor, "b"], matcher: Matcher) -> Prediction:
        given = rows["src"], rows["trg"], rows["src_xy_px"]
        return Prediction(transfer(bank, *given, matcher, rows["wanted"]), choice)

    def protocol(self) -> dict[str, Any]:
        return {"poses": ["upright"]}


@dataclass(frozen=True)
class Aligned(Method):
    """Test-time pose alignment: the source in several poses, the one that fits best is matched (paper §4.1).

    docs/protocol.md#pose-alignment.

    Args:
        poses: upright and others of flip, rot<degrees>, flip+rot<degrees>; or the name of a set: flip, rotate.
        distance: masked: inside segmentations | constellation: where the source's keypoints land, without masks | auto:
            masked where there are masks, else constellation, row by row | mutual: over mutual nearest neighbours |
            released: masked where there are masks, else mutual
        certainty: of a pose by the constellation, from which it is preferred to upright
        grid: null: the feature grid | 64: the release's up-sampling.
        mask_side: px at which segmentations are kept.
        masks: of images the dataset has none for: dataset: nothing | foreground: from features | sam: from the box;
            none: no masks at all.
        sam: weights for masks=sam: a hub id or a folder.

    Raises:
        ValueError: Poses that are not upright first and distinct, or a name that is not listed.
    """

    poses: Any = "flip"  # given as names or poses, kept as a tuple of poses
    distance: Literal["auto", "masked", "constellation", "mutual", "released"] = "auto"
    grid: int | None = None
    mask_side: int | None = 240
    masks: Literal["dataset", "foreground", "sam", "none"] = "dataset"
    sam: str = "facebook/sam-vit-base"
    certainty: float = 0.5
    name: ClassVar[str] = "aligned"

    def __post_init__(self) -> None:
        if self.distance not in DISTANCES:
            raise ValueError(f"alignment.distance is one of {', '.join(DISTANCES)}, got {self.distance!r}")
        if not 0 < self.certainty < 1:
            raise ValueError(f"alignment.certainty lies between 0 and 1, got {self.certainty}")
        if isinstance(self.poses, str) and self.poses not in POSES:
            raise ValueError(f"alignment.poses is a list, or one of {', '.join(POSES)}; got {self.poses!r}")
        given = POSES[self.poses] if isinstance(self.poses, str) else self.poses
        poses = tuple(pose if isinstance(pose, Pose) else Pose.parse(pose) for pose in given)
        if len(poses) < 2 or poses[0] != UPRIGHT or len(set(poses)) != len(poses):
            names = [str(pose) for pose in poses]
            raise ValueError(f"alignment.poses is upright and at least one other, without repeats; got {names}")
        if self.masks not in ("dataset", "foreground", "sam", "none") or (
            self.masks == "none" and self.distance == "masked"
        ):
            raise ValueError(
                f"alignment.masks is dataset, foreground, sam or (unless distance=masked) none, got {self.masks!r}"
            )
        object.__setattr__(self, "poses", poses)
        if self.distance in ("mutual", "constellation") or self.masks == "none":
            object.__setattr__(self, "mask_side", None)

    def __call__(self, bank: Bank, rows: Rows, matcher: Matcher) -> Prediction:
        masked, without = self._kinds(rows)
        if without != "constellation" or masked.any():
            return super().__call__(bank, rows, matcher)
        landed = self._land(bank, rows, ~masked, matcher)
        choice, row = self._surest(landed.distance), torch.arange(len(masked), device=masked.device)
        every = answers(landed.matches, rows["src_visible"], rows["partner"], self.poses)
        wanted = rows["wanted"] & rows["src_visible"]
        by_pose = Matches(every.xy_px * wanted.unsqueeze(-1), every.score * wanted)
        return Prediction(Matches(*(each[choice, row] for each in by_pose)), choice, by_pose)

    def choose(self, bank: Bank, rows: Rows) -> Int[Tensor, "b"]:
        """Index of the pose of least distance per row; ``auto`` is decided row by row, so batching cannot change it."""
        masked, without = self._kinds(rows)
        choice = torch.zeros_like(rows["src"])
        for some, kind in ((masked, "masked"), (~masked, without)):
            if some.any():
                choice[some] = self._choose(bank, rows, some, kind)
        return choice

    def _kinds(self, rows: Rows) -> tuple[Bool[Tensor, "b"], str]:
        """Which rows are compared inside masks, and how the others are."""
        masks, all_rows = rows["masks"], torch.ones_like(rows["src"], dtype=torch.bool)
        if self.distance == "masked":
            return all_rows, "masked"
        if self.distance in ("mutual", "constellation") or masks is None:
            return ~all_rows, "constellation" if self.distance in ("auto", "constellation") else "mutual"
        there = masks.flatten(1).any(1)
        return there[rows["src"]] & there[rows["trg"]], "constellation" if self.distance == "auto" else "mutual"

    def _choose(self, bank: Bank, rows: Rows, some: Bool[Tensor, "b"], kind: str) -> Int[Tensor, "k"]:
        if kind == "constellation":
            return self._surest(self._land(bank, rows, some, Matcher("argmax", frame_px=int(bank.frame_px))).distance)
        distance: Distance = "masked" if kind == "masked" else "mutual"
        given = rows["src_poses"][some], rows["trg"][some], rows["masks"]
        return choose_pose(pose_distances(bank, *given, distance, self.grid))

    def _land(self, bank: Bank, rows: Rows, some: Bool[Tensor, "b"], matcher: Matcher) -> Landed:
        given = rows["src_poses"][some], rows["trg"][some], rows["src_xy_px"][some], rows["src_visible"][some]
        return land(bank, *given, rows["extent_px"], self.poses, matcher)

    def _surest(self, distance: Float[Tensor, "b p"]) -> Int[Tensor, "b"]:
        certainty, best = torch.softmax(-distance, dim=1).max(1)
        return torch.where(certainty >= self.certainty, best, 0)

    def match(self, bank: Bank, rows: Rows, choice: Int[Tensor, "b"], matcher: Matcher) -> Prediction:
        given = rows["src_poses"], rows["trg"], rows["src_xy_px"], rows["src_visible"], rows["partner"]
        return Prediction(transfer_posed(bank, *given, choice, self.poses, matcher, rows["wanted"]), choice)

    def protocol(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "poses": [str(pose) for pose in self.poses]}
