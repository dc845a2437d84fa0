"""What photometric augmentation does to a picture's pixels, by name; nothing of it moves a point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

Colours = tuple[tuple[str, float], ...]
"""Changes in the order in which they are made, each with its strength."""


def paint(image: Image.Image, colours: Colours) -> Image.Image:
    """An RGB picture after every change."""
    for name, value in colours:
        image = CHANGES[name](image, value)
    return image


def draw_colours(rng: np.random.Generator, shares: Mapping[str, float]) -> Colours:
    """Changes of one view: each of :data:`KINDS` with the probability of ``shares``, its strengths at random.

    As many numbers are drawn whatever the shares are: one more kind leaves the others what they were.
    """
    chosen: Colours = ()
    for name, parts in KINDS.items():
        chance, values = rng.random(), [rng.uniform(low, high) for _, low, high in parts]
        if chance < shares.get(name, 0.0):
            chosen += tuple((part, round(value, 3)) for (part, _, _), value in zip(parts, values, strict=True))
    return chosen


def _hue(image: Image.Image, turn: float) -> Image.Image:
    h, s, v = image.convert("HSV").split()
    shift = round(turn * 256)
    return Image.merge("HSV", (h.point([(value + shift) % 256 for value in range(256)]), s, v)).convert("RGB")


CHANGES: Mapping[str, Callable[[Image.Image, float], Image.Image]] = MappingProxyType(
    {
        "gray": lambda image, _: ImageOps.grayscale(image).convert("RGB"),
        "posterize": lambda image, bits: ImageOps.posterize(image, round(bits)),
        "equalize": lambda image, _: ImageOps.equalize(image),
        "sharpen": lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
        "brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
        "contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
        "solarize": lambda image, threshold: ImageOps.solarize(image, round(threshold)),
        "saturation": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
        "hue": _hue,
    }
)
"""Single changes of a picture by their strength: Pillow's, and ``hue`` in turns of the colour circle."""

_JITTER = (("brightness", 0.8, 1.2), ("contrast", 0.8, 1.2), ("saturation", 0.8, 1.2), ("hue", -0.1, 0.1))
KINDS: Mapping[str, tuple[tuple[str, float, float], ...]] = MappingProxyType(
    {
        "gray": (("gray", 1.0, 1.0),),
        "posterize": (("posterize", 4.0, 4.0),),
        "equalize": (("equalize", 1.0, 1.0),),
        "sharpen": (("sharpen", 1.5, 3.0),),
        "brightness_contrast": _JITTER[:2],
        "solarize": (("solarize", 128.0, 128.0),),
        "jitter": _JITTER,
    }
)
"""The kinds that have a probability: which changes each makes, and between which strengths."""
