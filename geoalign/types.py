"""What passes between stages.

Dimension letters used in every shape: ``u`` views in the bank, ``b`` rows, ``n`` keypoint slots,
``c`` channels, ``h w`` cells, ``p`` poses, ``k`` visible keypoints gathered from all rows.
Batches are typed dicts (Lightning moves and pins them), values are named tuples.
"""

from __future__ import annotations

from typing import NamedTuple, NotRequired, TypedDict

from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from geoalign.bank import Bank

#: Kinds of row, by the integer stored in ``PairBatch["kind"]`` (paper: pose-variant augmentation; ``rotated`` is ours).
KINDS = ("plain", "single", "double", "self", "rotated")

Maps = tuple[Tensor, ...]
"""One frozen feature map per tap, each ``(u c_i h_i w_i)`` at its native resolution."""


class Views(TypedDict):
    """The bank: every image of the batch once per pose, as pixels or as cached maps."""

    images: NotRequired[dict[int, UInt8[Tensor, "u 3 s s"]]]
    maps: NotRequired[list[Tensor]]
    masks: NotRequired[Bool[Tensor, "u g g"]]
    extent_px: NotRequired[Float[Tensor, "u 4"]]
    """Where each view's picture lies in its frame, x1 y1 x2 y2; beside it are bars."""


class Rows(TypedDict):
    """Rows over a bank, without the truth: all that a method of prediction may see. Points are px of the frame."""

    src: Int[Tensor, "b"]
    trg: Int[Tensor, "b"]
    src_poses: Int[Tensor, "b p"]
    """The source's views in every pose that is tried, upright first."""
    src_xy_px: Float[Tensor, "b n 2"]
    src_visible: Bool[Tensor, "b n"]
    wanted: Bool[Tensor, "b n"]
    """Slots that are to be predicted."""
    partner: Int[Tensor, "b n"]
    """Mirror partner of every slot; its own index where it has none."""
    masks: Bool[Tensor, "u g g"] | None
    """Of the subject, one per view of the bank."""
    extent_px: Float[Tensor, "u 4"]
    """Where each view's picture lies in its frame, x1 y1 x2 y2; beside it are bars."""
    look: Look | None
    """Where views are crops: what they show, and the answers of a look at the whole."""


class Look(TypedDict):
    """A second look of every row at crops of its images, and what the first one answered; all in px of the frame."""

    src_crop: Float[Tensor, "b 3"]
    trg_crop: Float[Tensor, "b 3"]
    first_xy_px: Float[Tensor, "b n 2"]
    first_score: Float[Tensor, "b n"]


class PairBatch(TypedDict):
    """Rows over a bank of views; points are ``(x, y)`` pixels of the letterboxed frame."""

    views: Views
    src: Int[Tensor, "b"]
    trg: Int[Tensor, "b"]
    src_xy_px: Float[Tensor, "b n 2"]
    trg_xy_px: Float[Tensor, "b n 2"]
    src_visible: Bool[Tensor, "b n"]
    trg_visible: Bool[Tensor, "b n"]
    visible: Bool[Tensor, "b n"]
    geometry_aware: Bool[Tensor, "b n"]
    partner: Int[Tensor, "b n"]
    size_px: Float[Tensor, "b"]
    category: Int[Tensor, "b"]
    kind: Int[Tensor, "b"]
    count: Float[Tensor, "b"]
    noise: Float[Tensor, "b n 2"]
    weight: NotRequired[Float[Tensor, "b n"]]
    """Of each keypoint in its row's losses; all alike where there is none."""
    azimuth: Int[Tensor, "b 2"]
    azimuth_difference: Int[Tensor, "b"]
    src_poses: Int[Tensor, "b p"]
    pair_id: list[str]
    look: NotRequired[Look]


class Matches(NamedTuple):
    """Predicted target points in frame pixels and the similarity at the peak."""

    xy_px: Float[Tensor, "... b n 2"]
    score: Float[Tensor, "... b n"]


class Prediction(NamedTuple):
    """Matches of a batch's rows by one method, and the index of the pose each row was matched in."""

    matches: Matches
    pose: Int[Tensor, "b"]
    by_pose: Matches | None = None
    """What every pose would have predicted, ``(p b n ...)``, where the choice found that out."""


class DatasetInfo(NamedTuple):
    """What the metrics need to know of one evaluation dataset."""

    name: str
    categories: tuple[str, ...]


class Evaluated(TypedDict):
    """What an evaluation step hands to the callbacks: the predictions of every method, by its name."""

    bank: Bank
    dataset: DatasetInfo
    predictions: dict[str, Prediction]
