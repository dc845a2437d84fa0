"""Correspondence between any two pictures: points, dense fields, features, in original pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor, nn

from geoalign.apps.inputs import Align, checked_points, partners, poses_of
from geoalign.apps.pictures import ImageLike, open_picture
from geoalign.backbone.base import Backbone
from geoalign.backbone.masks import content_cells, foreground_masks
from geoalign.geometry import (
    UPRIGHT,
    Pose,
    cell_to_px,
    letterbox,
    letterbox_points,
    pose_image,
    pose_points,
    unletterbox_points,
    unpose_points,
)
from geoalign.matching import Matcher, transfer
from geoalign.matching.correlation import correlate
from geoalign.matching.pose import choose_pose, pose_distances, transfer_posed


class Answer(NamedTuple):
    """Where points lie in a target; ``pose`` is the source's that was matched."""

    xy_px: np.ndarray  # (n 2) of the original target
    score: np.ndarray  # (n) cosine at the peak
    pose: Pose


class Field(NamedTuple):
    """A match for every cell of a grid over the source's frame that ``inside`` holds; NaN elsewhere."""

    src_xy_px: np.ndarray  # (g g 2) cell centres in the original source
    xy_px: np.ndarray  # (g g 2) in the original target
    score: np.ndarray  # (g g)
    inside: np.ndarray  # (g g) bool
    pose: Pose


@dataclass(eq=False)
class View:
    """A picture made ready: descriptors ``(c g g)`` per pose, each computed when first needed.

    Views belong to one backbone and refiner; poses once chosen against a target are remembered.
    """

    picture: Image.Image
    descriptors: dict[Pose, Tensor] = field(default_factory=dict)
    subjects: dict[Pose, Tensor] = field(default_factory=dict)  # (g g) bool, for the choice of a pose
    choices: WeakKeyDictionary[View, dict[tuple[Pose, ...], Pose]] = field(default_factory=WeakKeyDictionary)

    @property
    def size(self) -> tuple[int, int]:
        """``(h, w)`` of the upright picture."""
        return self.picture.height, self.picture.width


class ImageMatcher:
    """A backbone, a refiner and matching settings behind one door; see :func:`geoalign.load`.

    Everywhere an image is asked for, a :class:`View` made by :meth:`view` does too and costs no second forward.
    """

    def __init__(self, backbone: Backbone, refiner: nn.Module, matcher: Matcher, device: str = "cpu") -> None:
        self.backbone, self.refiner = backbone.to(device), refiner.to(device).eval()
        self.matcher, self.device = matcher, device
        self.grid = int(backbone.grid)

    def view(self, image: ImageLike | View) -> View:
        """The picture, opened and checked; its descriptors come with the first use."""
        return image if isinstance(image, View) else View(open_picture(image))

    def features(self, image: ImageLike | View) -> Tensor:
        """Unit descriptors ``(c g g)`` of the letterboxed picture."""
        return self._bank(self.view(image), (UPRIGHT,))[0]

    def match(
        self,
        source: ImageLike | View,
        target: ImageLike | View,
        points: ArrayLike,
        align: Align = "off",
        mirror_pairs: Sequence[tuple[int, int]] = (),
    ) -> Answer:
        """Points ``(n 2)`` of the source, as ``(x, y)`` px, in the target.

        ``align`` also tries the source mirrored (``flip``) or turned (``rotate``) and keeps the pose that fits best.
        Under a flip a point finds what looks like its mirror image: a left paw finds a right one. ``mirror_pairs``,
        pairs of point numbers, undo that for points that are each other's mirror image.
        Raises ValueError for points outside the source.
        """
        return next(self.match_all(source, [target], points, align, mirror_pairs))

    @torch.no_grad()
    def match_all(
        self,
        source: ImageLike | View,
        targets: Iterable[ImageLike | View],
        points: ArrayLike,
        align: Align = "off",
        mirror_pairs: Sequence[tuple[int, int]] = (),
    ) -> Iterator[Answer]:
        """:meth:`match` against many targets, one after the other; the source is looked at once."""
        src, poses = self.view(source), poses_of(align)
        xy = letterbox_points(checked_points(points, src.size), src.size, self.matcher.frame_px)
        partner = partners(len(xy), mirror_pairs)
        for target in targets:
            trg = self.view(target)
            yield self._answer(src, trg, xy, poses, partner)

    @torch.no_grad()
    def dense(
        self,
        source: ImageLike | View,
        target: ImageLike | View,
        mask: np.ndarray | None = None,
        align: Align = "off",
    ) -> Field:
        """A match for every cell of the source, or of its ``mask`` (bool ``(h w)``, original pixels)."""
        src, trg = self.view(source), self.view(target)
        cells, inside = self._cells(src, mask)
        answer = self._answer(src, trg, cells[inside].float(), poses_of(align), partners(int(inside.sum()), ()))
        return self._field(src, cells, inside, answer)

    @torch.no_grad()
    def dense_back(self, source: ImageLike | View, target: ImageLike | View, pose: Pose = UPRIGHT) -> Field:
        """For every cell of the *target* its place in the source, seen in ``pose``: what warping needs."""
        src, trg = self.view(source), self.view(target)
        bank = torch.stack([self._bank(trg, (UPRIGHT,))[0], self._seen(src, pose)])
        cells, inside = self._cells(trg, None)
        at = torch.tensor([0], device=self.device)
        matches = transfer(bank, at, at + 1, cells[inside].float()[None], self.matcher)
        xy = unpose_points(matches.xy_px[0], pose, self.matcher.frame_px)
        return self._field(trg, cells, inside, Answer(self._original(xy, src), _numpy(matches.score[0]), pose))

    @torch.no_grad()
    def choose(self, source: ImageLike | View, target: ImageLike | View, align: Align) -> Pose:
        """The pose of the source whose subject lies nearest to the target's in descriptors."""
        return self._chosen(self.view(source), self.view(target), poses_of(align))

    @torch.no_grad()
    def similarity(
        self, source: ImageLike | View, target: ImageLike | View, point: ArrayLike, pose: Pose = UPRIGHT
    ) -> np.ndarray:
        """Cosine ``(g g)`` of one source point with every cell of the target's frame; NaN off the picture."""
        src, trg = self.view(source), self.view(target)
        xy = letterbox_points(checked_points(np.reshape(point, (1, 2)), src.size), src.size, self.matcher.frame_px)
        bank = torch.stack([*self._bank(src, (pose,)), *self._bank(trg, (UPRIGHT,))])
        at = torch.tensor([0], device=self.device)
        moved = pose_points(xy, pose, self.matcher.frame_px).to(self.device)
        stride = self.matcher.frame_px / self.grid
        found = _numpy(correlate(bank, at, moved, at + 1, stride, self.matcher.source).similarity[0])
        return np.where(self._content(trg.size).numpy(), found, np.nan)

    def content(self, image: ImageLike | View) -> np.ndarray:
        """Cells ``(g g)`` of the frame that lie on the picture, not on its bars."""
        return self._content(self.view(image).size).numpy()

    def _answer(self, src: View, trg: View, xy: Tensor, poses: tuple[Pose, ...], partner: Tensor) -> Answer:
        pose = self._chosen(src, trg, poses)
        if not len(xy):
            return Answer(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), pose)
        used = tuple(dict.fromkeys((UPRIGHT, pose)))  # the rest of the poses has done its work
        seen = torch.ones(1, len(xy), dtype=torch.bool, device=self.device)
        matches = transfer_posed(
            self._pair_bank(src, trg, used), torch.arange(len(used), device=self.device)[None],
            torch.tensor([len(used)], device=self.device), xy[None].to(self.device), seen,
            partner[None].to(self.device), torch.tensor([len(used) - 1], device=self.device), used, self.matcher,
        )  # fmt: skip
        return Answer(self._original(matches.xy_px[0], trg), _numpy(matches.score[0]), pose)

    def _chosen(self, src: View, trg: View, poses: tuple[Pose, ...]) -> Pose:
        """The pose that fits best, found once per pair."""
        known = src.choices.setdefault(trg, {})
        if poses not in known:
            known[poses] = poses[0] if len(poses) == 1 else poses[self._nearest(src, trg, poses)]
        return known[poses]

    def _nearest(self, src: View, trg: View, poses: tuple[Pose, ...]) -> int:
        bank = self._pair_bank(src, trg, poses)
        masks = torch.stack([*(self._subject(src, pose) for pose in poses), self._subject(trg, UPRIGHT)])
        at = torch.arange(len(bank), device=self.device)
        return int(choose_pose(pose_distances(bank, at[None, :-1], at[-1:], masks, "masked")))

    def _pair_bank(self, src: View, trg: View, poses: tuple[Pose, ...]) -> Tensor:
        """The source in every pose, then the target without its bars, where nothing can be matched."""
        return torch.stack([*self._bank(src, poses), self._seen(trg, UPRIGHT)])

    def _seen(self, view: View, pose: Pose) -> Tensor:
        """Descriptors that are zero on the bars: a match there would lie outside the picture."""
        return self._bank(view, (pose,))[0] * self._content(view.size, pose).to(self.device)

    def _subject(self, view: View, pose: Pose) -> Tensor:
        if pose not in view.subjects:
            content = self._content(view.size, pose).to(self.device)
            view.subjects[pose] = foreground_masks(self._bank(view, (pose,))[0][None], content[None])[0]
        return view.subjects[pose]

    def _content(self, size: tuple[int, int], pose: Pose = UPRIGHT) -> Tensor:
        """Cells ``(g g)`` on the picture under a pose."""
        inside = content_cells(size, self.grid)
        if not inside.any():  # thinner than a cell: nothing to tell apart
            return torch.ones_like(inside)
        return torch.from_numpy(pose_image(inside.numpy(), pose))

    def _cells(self, view: View, mask: np.ndarray | None) -> tuple[Tensor, Tensor]:
        """Centres ``(g g 2)`` of the frame's cells in px, and which to match."""
        side = torch.arange(self.grid)
        centres = cell_to_px(torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).float(), self._stride)
        inside = self._content(view.size)
        if mask is None:
            return centres, inside
        if mask.shape != view.size:
            raise ValueError(f"the mask is the source's size (h w) {view.size}, got {mask.shape}; resize it")
        at = np.floor(_numpy(unletterbox_points(centres, view.size, self.matcher.frame_px))).astype(int)
        x, y = np.clip(at[..., 0], 0, view.size[1] - 1), np.clip(at[..., 1], 0, view.size[0] - 1)
        return centres, inside & torch.from_numpy(np.asarray(mask, bool)[y, x])

    @property
    def _stride(self) -> float:
        return self.matcher.frame_px / self.grid

    def _field(self, view: View, cells: Tensor, inside: Tensor, answer: Answer) -> Field:
        keep = inside.numpy()
        xy, score = np.full((*keep.shape, 2), np.nan, np.float32), np.full(keep.shape, np.nan, np.float32)
        xy[keep], score[keep] = answer.xy_px, answer.score
        source = _numpy(unletterbox_points(cells, view.size, self.matcher.frame_px))
        return Field(source, xy, score, keep, answer.pose)

    def _original(self, xy_px: Tensor, view: View) -> np.ndarray:
        found = _numpy(unletterbox_points(xy_px.float(), view.size, self.matcher.frame_px))
        return np.clip(found, 0, [view.size[1], view.size[0]]).astype(np.float32)

    @torch.no_grad()
    def _bank(self, view: View, poses: Sequence[Pose]) -> list[Tensor]:
        missing = [pose for pose in poses if pose not in view.descriptors]
        if missing:
            squares = {s: np.asarray(letterbox(view.picture, s)) for s in self.backbone.image_sizes}
            images = {s: self._frames(square, missing) for s, square in squares.items()}
            view.descriptors.update(zip(missing, self.refiner(self.backbone(images)), strict=True))
        return [view.descriptors[pose] for pose in poses]

    def _frames(self, square: np.ndarray, poses: Sequence[Pose]) -> Tensor:
        frames = np.stack([pose_image(square, pose) for pose in poses])
        return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous().to(self.device)


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
