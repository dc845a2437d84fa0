"""From pairs to a batch: rows over a bank that holds every view once."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from geoalign.data.batch.augment import crop_slots, pose_slots
from geoalign.data.batch.live import Augment
from geoalign.data.batch.masks import MaskLoader, dataset_mask, load_masks
from geoalign.data.batch.views import ViewKey, ViewLoader, ViewRef, shown
from geoalign.data.records import ImageRecord, PairRecord, PairSource, framed_size_px
from geoalign.geometry import FLIP, FRAME_PX, UPRIGHT, Crop, Pose, letterbox_points, picture_extent
from geoalign.symmetry import Symmetry
from geoalign.types import KINDS, Look, PairBatch

ROWS: Mapping[str, tuple[Pose, Pose | None]] = {
    "plain": (UPRIGHT, UPRIGHT),
    "single": (FLIP, UPRIGHT),
    "double": (FLIP, FLIP),
    "self": (FLIP, None),  # the source's mirror image to the source itself
}
"""Kind of row: pose of the source, pose of the target (None: the upright source is the target)."""

ROTATED = "rotated"
"""The kind whose source is turned by an angle drawn from a list, beyond the paper."""
ANGLES = (90.0, 180.0, 270.0)


def training_poses(kinds: Sequence[str], angles: Sequence[float] = ANGLES) -> list[Pose]:
    """Every pose that rows of these kinds show an image in, upright first."""
    fixed = [pose for kind in kinds if kind != ROTATED for pose in ROWS[kind] if pose is not None]
    turned = [Pose(degrees=float(angle)) for angle in angles] if ROTATED in kinds else []
    return list(dict.fromkeys([UPRIGHT, *fixed, *turned]))


def view_slots(view: ViewRef, partner: np.ndarray, frame_px: int = FRAME_PX) -> tuple[np.ndarray, np.ndarray]:
    """Where a view shows its image's slots ``(n 2)``, in px of the frame, and which it shows ``(n)``.

    ``partner`` is each slot's mirror image, whose name it has where the view is flipped.
    """
    image = view.image
    framed = letterbox_points(image.xy_px, image.size, frame_px, image.framing)
    framed, visible = np.where(image.visible[:, None], framed, 0).astype(np.float32), image.visible
    if view.crop is not None:
        framed, visible = crop_slots(framed, visible, view.crop, frame_px)
    return pose_slots(framed, visible, view.pose, partner, frame_px)


class Sample(NamedTuple):
    """One drawn pair; ``epoch`` only seeds its label noise, and with ``place`` its augmentation."""

    pair: PairRecord
    epoch: int = 0
    place: int = 0


class RowLook(NamedTuple):
    """A second look of a pair: the crops to look at, and the first answers (frame px) with their scores."""

    src: Crop
    trg: Crop
    xy_px: Float[np.ndarray, "n 2"]
    score: Float[np.ndarray, "n"]


Looks = Mapping[str, RowLook]
"""Second looks by pair."""


class Row(NamedTuple):
    """One row of a batch: two views under their poses, its kind, and the pair and epoch that its draws go by."""

    src: ViewRef
    trg: ViewRef
    kind: str
    pair: PairRecord
    epoch: int


class Collate:
    """Callable for DataLoader: builds the bank of unique views and the rows that index into it.

    ``kinds`` are the rows made of each pair; ``poses`` the source's poses for alignment (upright first);
    ``mask_side`` asks for masks at that many px, which ``masks`` gives. Label noise, and the angle of a ``rotated``
    row out of ``angles`` (degrees), are drawn from its images, kind, epoch and ``seed`` alone: workers and ranks change
    nothing.
    ``looks``, by pair, replaces both images of every row by crops of them; points stay those of the whole frame.
    ``augment`` changes views, and points, visibility, sizes and masks with them; an image has one change in all rows of
    a pair or clique, drawn from it, the clique's place in its epoch and ``seed``.
    """

    def __init__(
        self,
        source: PairSource,
        loader: ViewLoader,
        kinds: Sequence[str] = ("plain",),
        poses: Sequence[Pose] = (UPRIGHT,),
        mask_side: int | None = None,
        frame_px: int = FRAME_PX,
        seed: int = 0,
        angles: Sequence[float] = ANGLES,
        masks: MaskLoader = dataset_mask,
        looks: Looks | None = None,
        augment: Augment | None = None,
    ) -> None:
        self.looks, self.augment = looks, augment if augment is not None and augment.on else None
        self.loader, self.kinds, self.poses = loader, tuple(kinds), tuple(poses)
        self.mask_side, self.masks, self.frame_px, self.seed = mask_side, masks, frame_px, seed
        self.threshold, self.slots, self.symmetries = source.threshold, source.slots, source.symmetries
        self.category_index = {name: i for i, name in enumerate(source.categories)}
        self.turns = tuple(Pose(degrees=float(angle)) for angle in angles)
        if ROTATED in self.kinds and (not self.turns or not all(0 < pose.degrees < 360 for pose in self.turns)):
            raise ValueError(f"rows of kind rotated need angles between 0 and 360 degrees, got {list(angles)}")
        if self.poses[0] != UPRIGHT:
            raise ValueError(f"the first pose is upright, got {[str(p) for p in self.poses]}")

    def __call__(self, samples: Sequence[Sample]) -> PairBatch:
        rows, count = self._unique_rows(samples)
        bank: dict[ViewKey, int] = {}
        refs: list[ViewRef] = []

        def place(ref: ViewRef) -> int:
            if ref.key not in bank:
                bank[ref.key] = len(refs)
                refs.append(ref)
            return bank[ref.key]

        src = torch.tensor([place(row.src) for row in rows])
        trg = torch.tensor([place(row.trg) for row in rows])
        src_poses = torch.tensor([[place(self._in_pose(row.src, pose)) for pose in self.poses] for row in rows])
        views = self.loader(refs)
        extents = [picture_extent(ref.image.size, ref.pose, ref.crop, self.frame_px, ref.image.framing) for ref in refs]
        views["extent_px"] = torch.tensor(extents, dtype=torch.float32)
        if self.mask_side is not None:
            views["masks"] = load_masks(refs, self.mask_side, self.masks, self.frame_px)
        looks = {} if self.looks is None else {"look": _stack_looks([self.looks[row.pair.pair_id] for row in rows])}
        return cast(
            PairBatch,
            {
                **looks,
                "views": views,
                "src": src,
                "trg": trg,
                "src_poses": src_poses,
                "count": torch.tensor(count),
                **self._facts(rows),
            },
        )

    def ends(self, sample: Sample) -> tuple[Hashable, Hashable]:
        """What makes the upright views of a pair's plain row the same as another's."""
        row = self._row(sample, "plain")
        return row.src.key, row.trg.key

    def _unique_rows(self, samples: Sequence[Sample]) -> tuple[list[Row], list[float]]:
        """Rows of all kinds; a row met again (the self rows of a clique) is counted, not computed twice."""
        rows: dict[tuple[object, ...], Row] = {}
        count: dict[tuple[object, ...], float] = {}
        for sample in samples:
            for kind in self.kinds:
                row = self._row(sample, kind)
                pair = None if kind == "self" else row.pair.pair_id  # a pair that is listed twice is evaluated twice
                key = (row.src.key, row.trg.key, kind, pair)
                rows.setdefault(key, row)
                count[key] = count.get(key, 0.0) + 1.0
        return list(rows.values()), list(count.values())

    def _row(self, sample: Sample, kind: str) -> Row:
        src_pose, trg_pose = (self._turn(sample), UPRIGHT) if kind == ROTATED else ROWS[kind]
        target = sample.pair.src if trg_pose is None else sample.pair.trg
        src, trg = shown(sample.pair.src, src_pose), shown(target, trg_pose or UPRIGHT)
        if self.looks is not None:
            look = self.looks[sample.pair.pair_id]
            src, trg = src._replace(crop=look.src), trg._replace(crop=look.trg)
        if self.augment is not None:
            src, trg = self._augmented(self.augment, src, sample), self._augmented(self.augment, trg, sample)
        return Row(src, trg, kind, sample.pair, sample.epoch)

    def _augmented(self, augment: Augment, ref: ViewRef, sample: Sample) -> ViewRef:
        # by image, not by pair or pose: a clique's bank stays one view per image and pose
        rng = content_rng(self.seed, sample.epoch, sample.place, ref.image.image_id, "augment")
        return augment(ref, rng, self.frame_px)

    def _in_pose(self, ref: ViewRef, pose: Pose) -> ViewRef:
        """A source in a pose to be tried; augmented rows are trained on, and try none."""
        return ref if self.augment is not None else ref._replace(pose=shown(ref.image, pose).pose)

    def _turn(self, sample: Sample) -> Pose:
        rng = content_rng(self.seed, sample.epoch, sample.pair.pair_id, "angle")
        return self.turns[int(rng.integers(len(self.turns)))]

    def _facts(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Everything a row says beside its views."""
        # by record, not by view: sources of pseudo-labels have other points of an image in every set of them
        points = {_record(ref): self._points(ref) for row in rows for ref in (row.src, row.trg)}
        src_xy, src_seen = _stack([points[_record(row.src)] for row in rows])
        trg_xy, trg_seen = _stack([points[_record(row.trg)] for row in rows])
        aware = [self._geometry_aware(row, points) for row in rows]
        weighted = any(row.src.image.weight is not None for row in rows)
        return {
            **({"weight": torch.from_numpy(np.stack([self._weight(row) for row in rows]))} if weighted else {}),
            "src_xy_px": src_xy,
            "trg_xy_px": trg_xy,
            "src_visible": src_seen,
            "trg_visible": trg_seen,
            "visible": src_seen & trg_seen,
            "geometry_aware": torch.from_numpy(np.stack(aware)),
            "partner": torch.from_numpy(np.stack([self._partner(row.src.image) for row in rows])),
            "size_px": torch.tensor([self._size_px(row.trg) for row in rows]),
            "category": torch.tensor([self.category_index[row.pair.category] for row in rows]),
            "kind": torch.tensor([KINDS.index(row.kind) for row in rows]),
            "noise": torch.from_numpy(np.stack([self._noise(row) for row in rows])),
            "azimuth": torch.tensor([[row.pair.src.azimuth, row.pair.trg.azimuth] for row in rows]),
            "azimuth_difference": torch.tensor([row.pair.azimuth_difference for row in rows]),
            "pair_id": [row.pair.pair_id for row in rows],
        }

    def _points(self, ref: ViewRef) -> tuple[np.ndarray, np.ndarray]:
        seen = ref if self.looks is None else ref._replace(crop=None)
        return view_slots(seen, self._partner(ref.image), self.frame_px)

    def _partner(self, image: ImageRecord) -> np.ndarray:
        """Mirror partner per slot; without a table every slot is its own, so flips rename nothing."""
        symmetry: Symmetry | None = self.symmetries.get(image.category)
        return np.arange(self.slots) if symmetry is None else symmetry.permutation(self.slots)

    def _geometry_aware(
        self, row: Row, points: Mapping[tuple[int, ViewKey], tuple[np.ndarray, np.ndarray]]
    ) -> np.ndarray:
        trg_seen = points[_record(row.trg)][1]
        seen = points[_record(row.src)][1] & trg_seen
        symmetry = self.symmetries.get(row.trg.image.category)
        return np.zeros_like(seen) if symmetry is None else symmetry.geometry_aware(seen, trg_seen)

    def _weight(self, row: Row) -> np.ndarray:
        ends = [ref for ref in (row.src, row.trg) if ref.image.weight is not None]
        named = [self._partner(ref.image) if ref.pose.flip else slice(None) for ref in ends]  # as flips rename points
        weights = [
            ref.image.weight[slots] for ref, slots in zip(ends, named, strict=True) if ref.image.weight is not None
        ]
        return np.minimum.reduce([np.ones(self.slots, np.float32), *weights])

    def _size_px(self, ref: ViewRef) -> float:
        zoom = 1.0 if ref.crop is None or self.looks is not None else self.frame_px / ref.crop.side
        return zoom * framed_size_px(ref.image, self.threshold, self.frame_px)

    def _noise(self, row: Row) -> np.ndarray:
        # by images, not by pair: a row that several pairs share is one row, whichever rank meets it
        rng = content_rng(self.seed, row.epoch, row.src.image.image_id, row.trg.image.image_id, row.kind)
        return rng.standard_normal((self.slots, 2), dtype=np.float32)


def content_rng(*names: str | int) -> np.random.Generator:
    """A generator that depends on what it is for, not on when it is asked."""
    text = "/".join(str(name) for name in names)
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))


def _record(ref: ViewRef) -> tuple[int, ViewKey]:
    return id(ref.image), ref.key


def _stack_looks(looks: Sequence[RowLook]) -> Look:
    def stacked(values: Sequence[Any]) -> Tensor:
        return torch.from_numpy(np.stack([np.asarray(value, np.float32) for value in values]))

    src, trg, xy_px, score = map(stacked, zip(*looks, strict=True))
    return {"src_crop": src, "trg_crop": trg, "first_xy_px": xy_px, "first_score": score}


def _stack(points: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor]:
    xy, seen = zip(*points, strict=True)
    return torch.from_numpy(np.stack(xy)), torch.from_numpy(np.stack(seen))
