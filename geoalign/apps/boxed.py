"""The refiner that comes with geoalign: where it lies, what it knows, and when frozen features match in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from geoalign.apps.inputs import ImageLike
from geoalign.apps.matcher import ImageMatcher
from geoalign.apps.picture import Picture
from geoalign.bank import Bank
from geoalign.files import FileError
from geoalign.geometry import UPRIGHT, Pose, letterbox
from geoalign.matching import Matcher
from geoalign.passes.foreground import foreground_masks
from geoalign.tensors import read_tensors

BOXES = Path(__file__).parent.parent / "boxed"
"""A folder for each backbone that has a refiner in the box, named as the backbone: a saved refiner, and FAMILIAR."""
FAMILIAR = "familiar.safetensors"


def box_of(backbone: str) -> Path | None:
    """The folder of the refiner in the box for a backbone, or None where it has none."""
    folder = BOXES / backbone
    return folder if folder.is_dir() else None


@dataclass(frozen=True, eq=False)
class Familiar:
    """Whether a picture shows what a refiner has learned from: how near its subject lies to those of the training.

    A subject is the mean frozen descriptor of a picture's foreground, to unit length; its familiarity is the largest
    cosine with ``subjects``, which stand for those of the training photographs. How the rule was measured stands in
    the card beside the weights.
    """

    subjects: Float[Tensor, "k c"]
    least: float

    @classmethod
    def read(cls, path: Path) -> Familiar:
        """From the file beside a refiner; FileError where it is damaged or of something else."""
        tensors, _ = read_tensors(path)
        subjects, least = (tensors.get(name) for name in ("subjects", "least"))
        if subjects is None or least is None or subjects.ndim != 2 or least.ndim:
            raise FileError(path, "subjects (k c) and least", ", ".join(tensors) or "nothing", "install geoalign again")
        return cls(F.normalize(subjects.float(), dim=1), float(least))

    def __call__(self, subject: Float[Tensor, "c"]) -> float:
        """Familiarity of a subject."""
        return float((self.subjects @ subject).max())


def subject_of(cells: Float[Tensor, "c g g"], content: Bool[Tensor, "g g"]) -> Float[Tensor, "c"]:
    """The mean frozen descriptor of a picture's foreground, to unit length; of the whole picture where it has none."""
    found = foreground_masks(cells[None], content[None])[0]
    return F.normalize(cells[:, found if found.any() else content].float().mean(1), dim=0).cpu()


class BoxedMatcher(ImageMatcher):
    """A matcher that steps back to frozen features where one of two pictures is unlike those its refiner learned from.

    What it then answers is the frozen matcher's answer, to the bit, and says so (``stepped_back``).
    """

    def __init__(self, own: ImageMatcher, plain: Callable[[], ImageMatcher], familiar: Familiar) -> None:
        super().__init__(own.backbone, own.refiner, own.matcher, own.device, own.confidence)
        self.familiar, self._plain, self._made = familiar, plain, list[ImageMatcher]()
        self._untuned = super().frozen().refiner
        self._subject_of: WeakKeyDictionary[Picture, Tensor] = WeakKeyDictionary()

    def frozen(self) -> ImageMatcher:
        """The matcher that it steps back to; made when it is first wanted."""
        if not self._made:
            self._made.append(self._plain())
        return self._made[0]

    def reading(self, matcher: Matcher) -> BoxedMatcher:
        """The same with other settings of matching, also where it steps back."""
        return BoxedMatcher(super().reading(matcher), lambda: self.frozen().reading(matcher), self.familiar)

    def suited(self, *images: ImageLike | Picture) -> tuple[ImageMatcher, tuple[Picture, ...]]:
        """Itself where every picture is familiar, else the frozen matcher and the pictures as that takes them."""
        pictures = tuple(map(self.picture, images))
        if all(self.familiarity(one) >= self.familiar.least for one in pictures):
            return self, pictures
        return self.frozen(), tuple(map(_twin, pictures))

    def familiarity(self, image: ImageLike | Picture) -> float:
        """How near a picture's subject lies to those of the training, a cosine."""
        return self.familiar(self.subject_of(image))

    @torch.no_grad()
    def subject_of(self, image: ImageLike | Picture) -> Float[Tensor, "c"]:
        """The picture's subject in frozen features; its bank is made of the same pass of the backbone."""
        picture = self.picture(image)
        if picture not in self._subject_of:
            frames = {side: np.array(letterbox(picture.image, side)) for side in self._sides}
            picture.banks[UPRIGHT], maps = self._look_deeper(frames)
            self._subject_of[picture] = subject_of(self._untuned(maps)[0], self._content(picture.size).to(self.device))
        return self._subject_of[picture]

    def _banks(self, picture: Picture, poses: Sequence[Pose]) -> list[Bank]:
        self.subject_of(picture)
        return super()._banks(picture, poses)


def _twin(picture: Picture) -> Picture:
    """The same picture with descriptors of its own, for another matcher."""
    if picture.frozen is None:
        empty: dict[str, Any] = {"banks": {}, "closer": {}, "subjects": {}, "choices": WeakKeyDictionary()}
        picture.frozen = replace(picture, **empty)
    return picture.frozen
