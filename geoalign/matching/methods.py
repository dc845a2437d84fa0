"""Methods of prediction: what each needs of views, and a function from a bank and rows to predictions."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geoalign.bank import Bank
from geoalign.geometry import UPRIGHT, Pose
from geoalign.matching.pose import Distance, choose_pose, pose_distances, transfer_posed
from geoalign.matching.transfer import Matcher, transfer
from geoalign.types import Prediction, Rows

POSES = {
    "flip": ("upright", "flip"),
    "rotate": ("upright", "flip", "rot90", "rot180", "rot270"),  # flips and quarter turns, as the paper writes
}
"""Sets of poses by name."""


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
    """Test-time pose alignment: the source in several poses, the one of least IMD is matched (paper §4.1).

    docs/protocol.md#pose-alignment.

    Args:
        poses: upright and others of flip, rot<degrees>, flip+rot<degrees>; or the name of a set: flip, rotate.
        distance: masked: inside segmentations | mutual: over mutual nearest neighbours | auto: masked where there are
            masks, row by row.
        grid: null: the feature grid | 64: the release's up-sampling.
        mask_side: px at which segmentations are kept.
        masks: of images the dataset has none for: dataset: nothing | foreground: from features | sam: from the box;
            none: no masks at all.
        sam: weights for masks=sam: a hub id or a folder.

    Raises:
        ValueError: Poses that are not upright first and distinct, or a name that is not listed.
    """

    poses: Any = "flip"  # given as names or poses, kept as a tuple of poses
    distance: Literal["auto", "masked", "mutual"] = "auto"
    grid: int | None = None
    mask_side: int | None = 240
    masks: Literal["dataset", "foreground", "sam", "none"] = "dataset"
    sam: str = "facebook/sam-vit-base"
    name: ClassVar[str] = "aligned"

    def __post_init__(self) -> None:
        if self.distance not in ("auto", "masked", "mutual"):
            raise ValueError(f"alignment.distance is auto, masked or mutual, got {self.distance!r}")
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
        if self.distance == "mutual" or self.masks == "none":
            object.__setattr__(self, "mask_side", None)

    def choose(self, bank: Bank, rows: Rows) -> Int[Tensor, "b"]:
        """Index of the pose of least IMD per row."""
        return choose_pose(self.distances(bank, rows))

    def match(self, bank: Bank, rows: Rows, choice: Int[Tensor, "b"], matcher: Matcher) -> Prediction:
        """Predict from the chosen poses, every slot that the source shows."""
        given = rows["src_poses"], rows["trg"], rows["src_xy_px"], rows["src_visible"], rows["partner"]
        return Prediction(transfer_posed(bank, *given, choice, self.poses, matcher), choice)

    def distances(self, bank: Bank, rows: Rows) -> Float[Tensor, "b p"]:
        """IMD of every pose; what ``auto`` takes is decided row by row, so that batching cannot change it."""
        poses, trg, masks = rows["src_poses"], rows["trg"], rows["masks"]
        if self.distance != "auto" or masks is None:
            kind: Distance = "masked" if self.distance == "masked" else "mutual"
            return pose_distances(bank, poses, trg, masks, kind, self.grid)
        there = masks.flatten(1).any(1)
        masked = there[rows["src"]] & there[trg]
        distance = torch.empty(poses.shape, device=poses.device)
        kinds: tuple[tuple[Tensor, Distance], ...] = ((masked, "masked"), (~masked, "mutual"))
        for some, kind in kinds:
            if some.any():
                distance[some] = pose_distances(bank, poses[some], trg[some], masks, kind, self.grid).float()
        return distance

    def protocol(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "poses": [str(pose) for pose in self.poses]}
