"""Dense matches of two pictures drawn: colours of places, and the source laid over the target."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from PIL import Image

from geoalign.apps.inputs import Align
from geoalign.apps.matcher import ImageMatcher
from geoalign.apps.picture import Picture
from geoalign.draw.field import draw_field
from geoalign.draw.warp import warp
from geoalign.geometry import Pose


class Overlay(NamedTuple):
    """The source in the colours of its places in the target, the target's colours, the source over the target."""

    tinted: Image.Image
    legend: Image.Image
    warped: Image.Image
    cells: int
    score: float
    pose: Pose
    doubts: tuple[str, ...]  # why a picture's subject was not used
    stepped_back: bool = False  # as an answer's


def overlay(
    matcher: ImageMatcher,
    pictures: tuple[Picture, Picture],
    small: tuple[Image.Image, Image.Image],
    mask: Bool[np.ndarray, "h w"] | None = None,
    subject: bool = True,
    align: Align = "off",
) -> Overlay:
    """The source's ``mask``, or its subject, or all of it, matched to the target; drawn at the size of ``small``.

    Where a subject is in doubt, all of that picture is taken, and the doubt said. Raises ValueError for a mask of
    another size, and for one that leaves nothing.
    """
    (source, target), doubts = pictures, list[str]()
    own = mask if mask is not None else certain(matcher, source, "source", doubts) if subject else None
    other = certain(matcher, target, "target", doubts) if subject else None
    there = matcher.dense(source, target, own, align)
    if not there.inside.any():
        raise ValueError("the mask leaves no part of the source; white is matched, black is not")
    back = matcher.dense_back(source, target, there.pose)
    scales = [np.divide(s.size, p.image.size) for s, p in zip(small, pictures, strict=True)]
    tinted, legend = draw_field(*small, there.xy_px * scales[1])
    warped = warp(*small, back.xy_px * scales[0], _resized(own, small[0]), _resized(other, small[1]))
    score = float(np.nanmean(there.score))
    return Overlay(
        tinted, legend, warped, int(there.inside.sum()), score, there.pose, tuple(doubts), there.stepped_back
    )


def certain(matcher: ImageMatcher, picture: Picture, role: str, doubts: list[str]) -> Bool[np.ndarray, "h w"] | None:
    """The subject's mask; None where it is in doubt, with the reason added to ``doubts``."""
    found = matcher.subject(picture)
    if found.doubt or not found.mask.any():
        doubts.append(f"the {role}'s subject is unsure ({found.doubt or 'nothing stands out'}); all of it is used")
        return None
    return found.mask


def _resized(mask: Bool[np.ndarray, "h w"] | None, small: Image.Image) -> Bool[np.ndarray, "hh ww"] | None:
    return None if mask is None else np.asarray(Image.fromarray(mask).resize(small.size))
