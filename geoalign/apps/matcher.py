"""Correspondence between any two pictures by the parts of a run; points, fields and features in original pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geoalign.apps.inputs import LOOKS, Align, ImageLike, LookMode, PointsLike, checked_points, partners
from geoalign.apps.picture import Answer, Field, Picture
from geoalign.apps.second_look import look_again
from geoalign.apps.viewer import Viewer
from geoalign.backbone.base import Backbone
from geoalign.bank import Bank, RecallingBank
from geoalign.geometry import UPRIGHT, Pose, letterbox_points, pose_points, unletterbox_points, unpose_points
from geoalign.matching import Aligned, Confidence, Matcher, Method, Plain, Twice, transfer
from geoalign.matching.methods import POSES
from geoalign.matching.pose_constellation import cells_within
from geoalign.refiner.base import Refiner
from geoalign.refiner.tail import frozen_features
from geoalign.types import Matches, Prediction, Rows


class ImageMatcher(Viewer):
    """A backbone, a refiner and matching settings behind one door; see :func:`geoalign.load`."""

    def __init__(
        self,
        backbone: Backbone,
        refiner: Refiner,
        matcher: Matcher,
        device: str = "cpu",
        confidence: Confidence | None = None,
    ) -> None:
        super().__init__(backbone, refiner, matcher.frame_px, device)
        self.matcher, self.confidence = matcher, confidence or Confidence()

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
        xy = letterbox_points(checked_points(points, src.size), src.size, self.frame_px)
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
        xy = unpose_points(matches.xy_px[0], pose, self.frame_px)
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
        xy = letterbox_points(checked_points(np.reshape(point, (1, 2)), src.size), src.size, self.frame_px)
        bank = self._bank(src, pose).join([self._bank(trg)])
        at = torch.tensor([0], device=self.device)
        moved = pose_points(xy, pose, self.frame_px).to(self.device)
        similarity = bank.read(at, moved, at + 1, self.matcher.source).similarity[0]
        inside = self._content(trg.size).repeat_interleave(bank.finer, 0).repeat_interleave(bank.finer, 1)
        return np.where(inside.numpy(), _numpy(similarity), np.nan)

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
        crops = tuple(method.crop(_numpy(xy_px[0]), self.frame_px) for xy_px in ends)
        extent = torch.tensor([self._extent(p, crop=c) for p, c in zip((src, trg), crops, strict=True)])
        near, far = (self._closer(p, c) for p, c in zip((src, trg), crops, strict=True))
        shown = cells_within(extent[1:], (self.grid, self.grid), self._stride).to(self.device)
        bank = RecallingBank(near.join([far.hide(shown)]))
        return look_again(
            bank, extent.to(self.device), (crops[0], crops[1]), first, method, self.matcher, self.confidence
        )

    def _field(
        self, picture: Picture, cells: Tensor, inside: Tensor, found: np.ndarray, score: Tensor, pose: Pose
    ) -> Field:
        keep = inside.numpy()
        xy, scores = np.full((*keep.shape, 2), np.nan, np.float32), np.full(keep.shape, np.nan, np.float32)
        xy[keep], scores[keep] = found, _numpy(score)
        source = _numpy(unletterbox_points(cells, picture.size, self.frame_px))
        return Field(source, xy, scores, keep, pose)

    def _original(self, xy_px: Tensor, picture: Picture) -> np.ndarray:
        found = _numpy(unletterbox_points(xy_px.float(), picture.size, self.frame_px))
        return np.clip(found, 0, [picture.size[1], picture.size[0]]).astype(np.float32)


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
