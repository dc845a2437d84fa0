"""Correspondence between any two pictures by the parts of a run; points, fields and features in original pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from geoalign.apps.inputs import (
    LOOKS,
    Align,
    BoxPx,
    ImageLike,
    LookMode,
    PointsLike,
    box_on,
    checked_points,
    open_picture,
    partners,
)
from geoalign.apps.second_look import look_again
from geoalign.apps.subject import Subject, frame_box, set_apart, subject_mask
from geoalign.backbone.base import Backbone
from geoalign.bank import Bank, RecallingBank
from geoalign.geometry import (
    UPRIGHT,
    Crop,
    Pose,
    cell_to_px,
    content_cells,
    letterbox,
    letterbox_points,
    look_closer,
    picture_extent,
    pose_image,
    pose_points,
    unletterbox_points,
    unpose_points,
)
from geoalign.matching import Aligned, Confidence, Matcher, Method, Plain, Twice, transfer
from geoalign.matching.methods import POSES
from geoalign.matching.pose_constellation import cells_within
from geoalign.passes.foreground import foreground_masks
from geoalign.pseudo.subjects import subject_cells
from geoalign.refiner.base import Refiner
from geoalign.refiner.tail import frozen_features
from geoalign.types import Maps, Matches, Prediction, Rows


class Answer(NamedTuple):
    """Where points lie in a target; ``pose`` is the source's that was matched."""

    xy_px: np.ndarray  # (n 2) of the original target
    score: np.ndarray  # (n) cosine at the peak
    pose: Pose
    confidence: np.ndarray  # (n) probability that the match is right
    visible: np.ndarray  # (n) bool: False where it is so unlikely that the target may not show the point
    stepped_back: bool = False  # matched by frozen features: the pictures are unlike those the refiner learned from


class Field(NamedTuple):
    """A match for every cell of a grid over the source's frame that ``inside`` holds; NaN elsewhere."""

    src_xy_px: np.ndarray  # (g g 2) cell centres in the original source
    xy_px: np.ndarray  # (g g 2) in the original target
    score: np.ndarray  # (g g)
    inside: np.ndarray  # (g g) bool
    pose: Pose
    confidence: np.ndarray | None = None  # (g g) of dense: probability that the match is right, each cell by itself
    stepped_back: bool = False  # as an answer's


@dataclass(eq=False)
class Picture:
    """A picture made ready: a bank of one view per pose, each computed when first needed.

    Pictures belong to one backbone and refiner; poses once chosen against a target are remembered.
    """

    image: Image.Image
    box_px: BoxPx | None = None  # its subject's, where somebody said it: matches lie in it
    banks: dict[Pose, Bank] = field(default_factory=dict)
    closer: dict[Crop, Bank] = field(default_factory=dict)  # of the last second look: its crop
    subjects: dict[Pose, Bool[Tensor, "g g"]] = field(default_factory=dict)  # for the choice of a pose
    choices: WeakKeyDictionary[Picture, dict[Align, Int[Tensor, "1"]]] = field(default_factory=WeakKeyDictionary)
    frozen: Picture | None = None  # the same for the frozen features that a matcher may step back to

    @property
    def nbytes(self) -> int:
        """Memory that its descriptors take."""
        own = sum(bank.nbytes for bank in (*self.banks.values(), *self.closer.values()))
        return own + (0 if self.frozen is None else self.frozen.nbytes)

    @property
    def size(self) -> tuple[int, int]:
        """``(h, w)`` of the upright picture."""
        return self.image.height, self.image.width

    def within(self, box_px: Sequence[float] | None) -> Picture:
        """The same picture and banks with another box ``x1 y1 x2 y2`` in px, or none; ValueError for one off it."""
        box = None if box_px is None else box_on(box_px, self.size)
        frozen = None if self.frozen is None else self.frozen.within(box_px)
        return replace(self, box_px=box, closer={}, subjects={}, choices=WeakKeyDictionary(), frozen=frozen)


class ImageMatcher:
    """A backbone, a refiner and matching settings behind one door; see :func:`geoalign.load`.

    Everywhere an image is asked for, a :class:`Picture` made by :meth:`picture` does too and costs no second forward.
    """

    def __init__(
        self,
        backbone: Backbone,
        refiner: Refiner,
        matcher: Matcher,
        device: str = "cpu",
        confidence: Confidence | None = None,
    ) -> None:
        self.backbone, self.refiner = backbone.to(device), refiner.to(device).eval()
        self.matcher, self.device, self.confidence = matcher, device, confidence or Confidence()
        self.grid = int(refiner.grid) // refiner.finer  # of the features: what is asked of every cell

    def frozen(self) -> ImageMatcher:
        """A matcher by the frozen features alone."""
        parts = self.backbone.channels, self.backbone.grid, self.backbone.groups, self.backbone.rest
        return ImageMatcher(self.backbone, frozen_features(*parts), self.matcher, self.device)

    def reading(self, matcher: Matcher) -> ImageMatcher:
        """The same with other settings of matching."""
        return ImageMatcher(self.backbone, self.refiner, matcher, self.device, self.confidence)

    def suited(self, *images: ImageLike | Picture) -> tuple[ImageMatcher, tuple[Picture, ...]]:
        """The matcher for these pictures together, and the pictures as it takes them; here itself."""
        return self, tuple(map(self.picture, images))

    def picture(self, image: ImageLike | Picture, box_px: Sequence[float] | None = None) -> Picture:
        """The picture, opened and checked; its descriptors come with the first use.

        ``box_px`` says where its subject is (``x1 y1 x2 y2``): in a target, matches lie there.
        """
        own = image if isinstance(image, Picture) else Picture(open_picture(image))
        return own if box_px is None else own.within(box_px)

    @torch.no_grad()
    def subject(self, image: ImageLike | Picture) -> Subject:
        """What the features set apart from the border, in the picture's box where it has one, and any doubt of it."""
        own = self.picture(image)
        content = self._content(own.size)
        box = None if own.box_px is None else self._box(own, own.box_px, UPRIGHT)
        cells = subject_cells(set_apart(self._bank(own).cells(0).cpu(), content), box, self.matcher.frame_px)
        return subject_mask(cells & content, content, own.size, own.box_px)

    def features(self, image: ImageLike | Picture) -> Float[Tensor, "c g g"]:
        """Unit descriptors of the letterboxed picture."""
        return self._bank(self.picture(image)).cells(0)

    def match(
        self,
        source: ImageLike | Picture,
        target: ImageLike | Picture,
        points: PointsLike,
        align: Align = "off",
        mirror_pairs: Sequence[tuple[int, int]] = (),
        look: LookMode = "once",
    ) -> Answer:
        """Points ``(n 2)`` of the source, as ``(x, y)`` px, in the target.

        ``align`` also tries the source mirrored (``flip``) or turned (``rotate``) and keeps the pose that fits best.
        Under a flip a point finds what looks like its mirror image: a left paw finds a right one. ``mirror_pairs``,
        pairs of point numbers, undo that for points that are each other's mirror image.
        Five points or more of one subject tell right from wrong matches better than one (``confidence``).
        ``look="twice"`` then crops both pictures to these points and to where they were found, and matches again: a
        small subject fills more cells. It takes the upright source.
        Raises ValueError for points outside the source, and for a second look with poses.
        """
        return next(self.match_all(source, [target], points, align, mirror_pairs, look))

    @torch.no_grad()
    def match_all(
        self,
        source: ImageLike | Picture,
        targets: Iterable[ImageLike | Picture],
        points: PointsLike,
        align: Align = "off",
        mirror_pairs: Sequence[tuple[int, int]] = (),
        look: LookMode = "once",
    ) -> Iterator[Answer]:
        """:meth:`match` against many targets, one after the other; the source is looked at once."""
        if look not in LOOKS or (look == "twice" and align != "off"):
            raise ValueError(f"look is once, or twice with align=off, got {look!r} with align={align!r}")
        src = self.picture(source)
        xy = letterbox_points(checked_points(points, src.size), src.size, self.matcher.frame_px)
        partner = partners(len(xy), mirror_pairs)
        for target in targets:
            able, (one, other) = self.suited(src, target)
            yield able._answer(one, other, xy, align, partner, look)._replace(stepped_back=able is not self)

    def _answer(self, src: Picture, trg: Picture, xy: Tensor, align: Align, partner: Tensor, look: LookMode) -> Answer:
        bank, rows, method, prediction = self._predict(src, trg, xy, align, partner)
        matches, sure = prediction.matches, self.confidence.of(bank, rows, prediction, method.poses, self.matcher)
        if look == "twice" and len(xy):
            matches, sure = self._again(src, trg, (rows, prediction, sure))
        return Answer(
            self._original(matches.xy_px[0], trg),
            _numpy(matches.score[0]),
            method.poses[int(prediction.pose)],
            _numpy(sure[0]),
            _numpy(sure[0] >= self.confidence.visible),
        )

    @torch.no_grad()
    def dense(
        self,
        source: ImageLike | Picture,
        target: ImageLike | Picture,
        mask: Bool[np.ndarray, "h w"] | None = None,
        align: Align = "off",
    ) -> Field:
        """A match for every cell of the source, or of its ``mask`` (original pixels), with its confidence."""
        able, (src, trg) = self.suited(source, target)
        if able is not self:
            return able.dense(src, trg, mask, align)._replace(stepped_back=True)
        cells, inside = self._cells(src, mask)
        every = cells[inside].float(), align, partners(int(inside.sum()), ())
        bank, rows, method, prediction = self._predict(src, trg, *every)
        xy, score = self._original(prediction.matches.xy_px[0], trg), prediction.matches.score[0]
        # cells of a picture are no constellation of points of one subject
        sure = self.confidence.of(bank, rows, prediction, method.poses, self.matcher, alone=True)[0]
        field = self._field(src, cells, inside, xy, score, method.poses[int(prediction.pose)])
        confidence = np.full(field.score.shape, np.nan, np.float32)
        confidence[field.inside] = _numpy(sure)
        return field._replace(confidence=confidence)

    @torch.no_grad()
    def dense_back(self, source: ImageLike | Picture, target: ImageLike | Picture, pose: Pose = UPRIGHT) -> Field:
        """For every cell of the *target* its place in the source, seen in ``pose``: what warping needs."""
        able, (src, trg) = self.suited(source, target)
        if able is not self:
            return able.dense_back(src, trg, pose)._replace(stepped_back=True)
        bank = self._bank(trg).join([self._without_bars(src, pose)])
        cells, inside = self._cells(trg, None)
        at = torch.tensor([0], device=self.device)
        matches = transfer(bank, at, at + 1, cells[inside].float()[None].to(self.device), self.matcher)
        xy = unpose_points(matches.xy_px[0], pose, self.matcher.frame_px)
        return self._field(trg, cells, inside, self._original(xy, src), matches.score[0], pose)

    @torch.no_grad()
    def choose(self, source: ImageLike | Picture, target: ImageLike | Picture, align: Align) -> Pose:
        """The pose of the source whose subject lies nearest to the target's in descriptors."""
        able, (src, trg) = self.suited(source, target)
        _, _, method, prediction = able._predict(src, trg, torch.zeros(0, 2), align, partners(0, ()))
        return method.poses[int(prediction.pose)]

    @torch.no_grad()
    def similarity(
        self, source: ImageLike | Picture, target: ImageLike | Picture, point: PointsLike, pose: Pose = UPRIGHT
    ) -> Float[np.ndarray, "g g"]:
        """Cosine of one source point with every cell of the target's frame; NaN off the picture."""
        able, (src, trg) = self.suited(source, target)
        if able is not self:
            return able.similarity(src, trg, point, pose)
        xy = letterbox_points(checked_points(np.reshape(point, (1, 2)), src.size), src.size, self.matcher.frame_px)
        bank = self._bank(src, pose).join([self._bank(trg)])
        at = torch.tensor([0], device=self.device)
        moved = pose_points(xy, pose, self.matcher.frame_px).to(self.device)
        similarity = bank.read(at, moved, at + 1, self.matcher.source).similarity[0]
        inside = self._content(trg.size).repeat_interleave(bank.finer, 0).repeat_interleave(bank.finer, 1)
        return np.where(inside.numpy(), _numpy(similarity), np.nan)

    def content(self, image: ImageLike | Picture) -> Bool[np.ndarray, "g g"]:
        """Cells of the frame that lie on the picture, not on its bars."""
        return self._content(self.picture(image).size).numpy()

    def _predict(
        self, src: Picture, trg: Picture, xy: Tensor, align: Align, partner: Tensor
    ) -> tuple[Bank, Rows, Method, Prediction]:
        """The source in every pose, then the target without its bars, as a bank of a batch with one row."""
        if align != "off" and align not in POSES:
            raise ValueError(f"align is off, {', '.join(POSES)}, got {align!r}")
        method = Plain() if align == "off" else Aligned(align, distance="masked")
        first, *others = self._banks(src, method.poses)
        bank = RecallingBank(first.join([*others, self._without_bars(trg, UPRIGHT)]))
        at, seen = torch.arange(len(bank), device=self.device), torch.ones(1, len(xy), dtype=torch.bool)
        rows = Rows(
            src=at[:1],
            trg=at[-1:],
            src_poses=at[None, :-1],
            src_xy_px=xy[None].to(self.device),
            src_visible=seen.to(self.device),
            wanted=seen.to(self.device),
            partner=partner[None].to(self.device),
            masks=None,
            extent_px=torch.tensor([*(self._extent(src, p) for p in method.poses), self._extent(trg)]).to(self.device),
            look=None,
        )
        choices = src.choices.setdefault(trg, {})
        if align not in choices:
            if method.mask_side is not None:
                subjects = [self._subject(src, pose) for pose in method.poses]
                rows["masks"] = torch.stack([*subjects, self._subject(trg, UPRIGHT)])
            choices[align] = method.choose(bank, rows)
        return bank, rows, method, method.match(bank, rows, choices[align], self.matcher)

    def _again(self, src: Picture, trg: Picture, first: tuple[Rows, Prediction, Tensor]) -> tuple[Matches, Tensor]:
        """The same points in crops around them and around where they were found."""
        rows, prediction, _ = first
        ends, method = (rows["src_xy_px"], prediction.matches.xy_px), Twice()
        crops = tuple(method.crop(_numpy(xy_px[0]), self.matcher.frame_px) for xy_px in ends)
        extent = torch.tensor([self._extent(p, crop=c) for p, c in zip((src, trg), crops, strict=True)])
        near, far = (self._closer(p, c) for p, c in zip((src, trg), crops, strict=True))
        shown = cells_within(extent[1:], (self.grid, self.grid), self._stride).to(self.device)
        bank = RecallingBank(near.join([far.hide(shown)]))
        return look_again(
            bank, extent.to(self.device), (crops[0], crops[1]), first, method, self.matcher, self.confidence
        )

    def _extent(
        self, picture: Picture, pose: Pose = UPRIGHT, crop: Crop | None = None
    ) -> tuple[float, float, float, float]:
        return picture_extent(picture.size, pose, crop, self.matcher.frame_px)

    def _without_bars(self, picture: Picture, pose: Pose) -> Bank:
        """A match on a bar would lie outside the picture, and one off its box beside its subject."""
        shown = self._content(picture.size, pose)
        if picture.box_px is not None:
            box = self._box(picture, picture.box_px, pose)
            shown = shown & subject_cells(torch.ones_like(shown), box, self.matcher.frame_px)
        return self._bank(picture, pose).hide(shown[None].to(self.device))

    def _box(self, picture: Picture, box_px: BoxPx, pose: Pose) -> BoxPx:
        return frame_box(box_px, picture.size, pose, self.matcher.frame_px, self.grid)

    def _subject(self, picture: Picture, pose: Pose) -> Tensor:
        if pose not in picture.subjects:
            content = self._content(picture.size, pose).to(self.device)
            cells = self._bank(picture, pose).cells(0)
            found = foreground_masks(cells[None], content[None])[0]
            box = None if picture.box_px is None else self._box(picture, picture.box_px, pose)
            picture.subjects[pose] = subject_cells(found.cpu(), box, self.matcher.frame_px).to(self.device)
        return picture.subjects[pose]

    def _content(self, size: tuple[int, int], pose: Pose = UPRIGHT) -> Tensor:
        """Cells ``(g g)`` on the picture under a pose."""
        inside = content_cells(size, self.grid)
        if not inside.any():  # thinner than a cell: nothing to tell apart
            return torch.ones_like(inside)
        return torch.from_numpy(pose_image(inside.numpy(), pose))

    def _cells(self, picture: Picture, mask: np.ndarray | None) -> tuple[Tensor, Tensor]:
        """Centres ``(g g 2)`` of the frame's cells in px, and which to match."""
        side = torch.arange(self.grid)
        centres = cell_to_px(torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).float(), self._stride)
        inside = self._content(picture.size)
        if mask is None:
            return centres, inside
        if mask.shape != picture.size:
            raise ValueError(f"the mask is the source's size (h w) {picture.size}, got {mask.shape}; resize it")
        at = np.floor(_numpy(unletterbox_points(centres, picture.size, self.matcher.frame_px))).astype(int)
        x, y = np.clip(at[..., 0], 0, picture.size[1] - 1), np.clip(at[..., 1], 0, picture.size[0] - 1)
        return centres, inside & torch.from_numpy(np.asarray(mask, bool)[y, x])

    @property
    def _stride(self) -> float:
        return self.matcher.frame_px / self.grid

    def _field(
        self, picture: Picture, cells: Tensor, inside: Tensor, found: np.ndarray, score: Tensor, pose: Pose
    ) -> Field:
        keep = inside.numpy()
        xy, scores = np.full((*keep.shape, 2), np.nan, np.float32), np.full(keep.shape, np.nan, np.float32)
        xy[keep], scores[keep] = found, _numpy(score)
        source = _numpy(unletterbox_points(cells, picture.size, self.matcher.frame_px))
        return Field(source, xy, scores, keep, pose)

    def _original(self, xy_px: Tensor, picture: Picture) -> np.ndarray:
        found = _numpy(unletterbox_points(xy_px.float(), picture.size, self.matcher.frame_px))
        return np.clip(found, 0, [picture.size[1], picture.size[0]]).astype(np.float32)

    def _bank(self, picture: Picture, pose: Pose = UPRIGHT) -> Bank:
        return self._banks(picture, (pose,))[0]

    @torch.no_grad()
    def _banks(self, picture: Picture, poses: Sequence[Pose]) -> list[Bank]:
        """The picture's view under each pose; it is letterboxed once for all that are missing."""
        missing = [pose for pose in poses if pose not in picture.banks]
        frames = {s: np.array(letterbox(picture.image, s)) for s in self._sides} if missing else {}
        for pose in missing:
            picture.banks[pose] = self._look({s: pose_image(frame, pose) for s, frame in frames.items()})
        return [picture.banks[pose] for pose in poses]

    @torch.no_grad()
    def _closer(self, picture: Picture, crop: Crop) -> Bank:
        if crop not in picture.closer:
            frame = int(self.matcher.frame_px)
            frames = {s: np.array(look_closer(picture.image, crop, s, frame)) for s in self._sides}
            picture.closer = {crop: self._look(frames)}
        return picture.closer[crop]

    def _look(self, frames: dict[int, np.ndarray]) -> Bank:
        """The bank of one view, from its frames by side."""
        return self._look_deeper(frames)[0]

    def _look_deeper(self, frames: dict[int, np.ndarray]) -> tuple[Bank, Maps]:
        """And the backbone's maps that it is made of."""
        given = {s: torch.from_numpy(frame).permute(2, 0, 1).contiguous() for s, frame in frames.items()}
        seen = {s: frame[None].to(self.device) for s, frame in given.items()}
        maps = self.backbone(seen)
        return self.refiner.bank_seeing(maps, seen, self.matcher.frame_px), maps

    @property
    def _sides(self) -> list[int]:
        return sorted({*self.backbone.image_sizes, *self.refiner.needs_px})


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
