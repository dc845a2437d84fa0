"""Augmentation of pixels: crops, turns and colours of training views, drawn from what a view is and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from geoalign.data.batch.colours import KINDS, draw_colours
from geoalign.data.batch.views import ViewRef
from geoalign.geometry import Crop, Pose, letterbox_points


@dataclass(frozen=True)
class Augment:
    """How training views are changed; off unless something is given. Features must be live (``store=off``).

    Each argument that is a share is the probability that a view is changed so. Strengths of colours are fixed
    (:data:`geoalign.data.batch.colours.KINDS`).

    Args:
        crop: share of views cropped to a square around the subject's box
        zoom: most that a crop enlarges
        rotate: share of views turned about the middle of their frame
        degrees: turned by at most so much, either way
        turns: other limits of degrees for some categories, by name
        gray: share without colours
        posterize: share with 4 bits a colour
        equalize: share with an even histogram
        sharpen: share sharpened
        brightness_contrast: share of other brightness and contrast
        solarize: share with the bright half inverted
        jitter: share of other brightness, contrast, saturation and hue

    Raises:
        ValueError: a share outside 0..1, a zoom below 1, or degrees outside 0..180.
    """

    crop: float = 0.0
    zoom: float = 3.0
    rotate: float = 0.0
    degrees: float = 30.0
    turns: Mapping[str, float] = field(default_factory=dict)
    gray: float = 0.0
    posterize: float = 0.0
    equalize: float = 0.0
    sharpen: float = 0.0
    brightness_contrast: float = 0.0
    solarize: float = 0.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        for name, share in {"crop": self.crop, "rotate": self.rotate, **self.colours}.items():
            if not 0 <= share <= 1:
                raise ValueError(f"data.augment.{name} is a share from 0 to 1, got {share}")
        if self.zoom < 1:
            raise ValueError(f"data.augment.zoom is at least 1, got {self.zoom}")
        for name, limit in {"degrees": self.degrees, **{f"turns.{k}": v for k, v in self.turns.items()}}.items():
            if not 0 <= limit <= 180:
                raise ValueError(f"data.augment.{name} lies in 0..180, got {limit}")

    @property
    def colours(self) -> dict[str, float]:
        """Shares of the changes of colour."""
        return {name: getattr(self, name) for name in KINDS}

    @property
    def on(self) -> bool:
        """Whether anything is changed."""
        return any((self.crop, self.rotate, *self.colours.values()))

    def __call__(self, ref: ViewRef, rng: np.random.Generator, frame_px: int) -> ViewRef:
        """The view after its draws, which are the same number whatever the shares are."""
        cropped, turned, angle, *place = rng.random(6).tolist()
        limit = self.turns.get(ref.image.category, self.degrees)
        degrees = ref.pose.degrees + (round((2 * angle - 1) * limit, 1) if turned < self.rotate else 0.0)
        crop = self._crop(ref, place, frame_px) if cropped < self.crop else None
        return ref._replace(pose=Pose(ref.pose.flip, degrees % 360), crop=crop, colours=draw_colours(rng, self.colours))

    def _crop(self, ref: ViewRef, draws: list[float], frame_px: int) -> Crop:
        """A square of the frame that holds the box (its middle, where the box leaves the frame), by three draws."""
        image = ref.image
        corners = letterbox_points(np.array(image.box_px).reshape(2, 2), image.size, frame_px, image.framing)
        low, high = np.clip(corners, 0, frame_px)
        least = min(frame_px, max(float((high - low).max()), frame_px / self.zoom))
        side = round(least + draws[0] * (frame_px - least), 1)
        first, last = np.maximum(high - side, 0), np.minimum(low, frame_px - side)
        x, y = np.round(first + np.array(draws[1:]) * np.maximum(last - first, 0), 1).tolist()
        return Crop(x, y, side)
