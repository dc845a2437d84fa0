"""How an application looks at a picture: its banks, one view per pose or crop, and what lies in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geoalign.apps.inputs import BoxPx, ImageLike, open_picture
from geoalign.apps.picture import Picture
from geoalign.apps.subject import Subject, frame_box, subject_mask
from geoalign.backbone.base import Backbone
from geoalign.bank import Bank
from geoalign.geometry import (
    UPRIGHT,
    Crop,
    Pose,
    cell_to_px,
    content_cells,
    letterbox,
    look_closer,
    picture_extent,
    pose_image,
    unletterbox_points,
)
from geoalign.passes.foreground import foreground_masks, set_apart
from geoalign.pseudo.subjects import subject_cells
from geoalign.refiner.base import Refiner
from geoalign.types import Maps


class Viewer:
    """A backbone and a refiner that look at pictures in frames of ``frame_px``, each view once.

    Everywhere an image is asked for, a :class:`Picture` made by :meth:`picture` does too and costs no second forward.
    """

    def __init__(self, backbone: Backbone, refiner: Refiner, frame_px: int, device: str = "cpu") -> None:
        self.backbone, self.refiner = backbone.to(device), refiner.to(device).eval()
        self.frame_px, self.device = frame_px, device
        self.grid = int(refiner.grid) // refiner.finer  # of the features: what is asked of every cell

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
        cells = subject_cells(set_apart(self._bank(own).cells(0).cpu(), content), box, self.frame_px)
        return subject_mask(cells & content, content, own.size, own.box_px)

    def features(self, image: ImageLike | Picture) -> Float[Tensor, "c g g"]:
        """Unit descriptors of the letterboxed picture."""
        return self._bank(self.picture(image)).cells(0)

    def content(self, image: ImageLike | Picture) -> Bool[np.ndarray, "g g"]:
        """Cells of the frame that lie on the picture, not on its bars."""
        return self._content(self.picture(image).size).numpy()

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
            frames = {s: np.array(look_closer(picture.image, crop, s, self.frame_px)) for s in self._sides}
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
        return self.refiner.bank_seeing(maps, seen, self.frame_px), maps

    @property
    def _sides(self) -> list[int]:
        return sorted({*self.backbone.image_sizes, *self.refiner.needs_px})

    def _extent(
        self, picture: Picture, pose: Pose = UPRIGHT, crop: Crop | None = None
    ) -> tuple[float, float, float, float]:
        return picture_extent(picture.size, pose, crop, self.frame_px)

    def _without_bars(self, picture: Picture, pose: Pose) -> Bank:
        """A match on a bar would lie outside the picture, and one off its box beside its subject."""
        shown = self._content(picture.size, pose)
        if picture.box_px is not None:
            box = self._box(picture, picture.box_px, pose)
            shown = shown & subject_cells(torch.ones_like(shown), box, self.frame_px)
        return self._bank(picture, pose).hide(shown[None].to(self.device))

    def _box(self, picture: Picture, box_px: BoxPx, pose: Pose) -> BoxPx:
        return frame_box(box_px, picture.size, pose, self.frame_px, self.grid)

    def _subject(self, picture: Picture, pose: Pose) -> Tensor:
        if pose not in picture.subjects:
            content = self._content(picture.size, pose).to(self.device)
            cells = self._bank(picture, pose).cells(0)
            found = foreground_masks(cells[None], content[None])[0]
            box = None if picture.box_px is None else self._box(picture, picture.box_px, pose)
            picture.subjects[pose] = subject_cells(found.cpu(), box, self.frame_px).to(self.device)
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
        at = np.floor(unletterbox_points(centres, picture.size, self.frame_px).numpy()).astype(int)
        x, y = np.clip(at[..., 0], 0, picture.size[1] - 1), np.clip(at[..., 1], 0, picture.size[0] - 1)
        return centres, inside & torch.from_numpy(np.asarray(mask, bool)[y, x])

    @property
    def _stride(self) -> float:
        return self.frame_px / self.grid
