"""A similarity map laid over a picture."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from PIL import Image

from geoalign.draw.field import sample_field


def draw_heatmap(
    picture: Image.Image,
    similarity: Float[np.ndarray, "g g"],
    strength: float = 0.6,
    box_px: tuple[float, float, float, float] | None = None,
) -> Image.Image:
    """Dark blue is the least similar place of the picture, yellow the most; ``similarity`` is NaN off it.

    With ``box_px`` the picture is that part of a larger one, x1 y1 x2 y2 in px of the whole at the part's size.
    """
    values = sample_field(similarity[..., None], (picture.height, picture.width), box_px)[..., 0]
    low, high = np.nanmin(similarity), np.nanmax(similarity)
    share = np.nan_to_num((values - low) / max(high - low, 1e-9))
    tint = _ramp(share**2)
    grey = np.asarray(picture.convert("L").convert("RGB")).astype(float)
    return Image.fromarray((grey * (1 - strength) + tint * strength).round().astype(np.uint8))


def _ramp(share: np.ndarray) -> np.ndarray:
    """Colours of a share in 0..1: blue, teal, orange, yellow, light enough to tell apart in grey too."""
    stops = np.array([[20, 20, 80], [20, 110, 140], [230, 120, 40], [255, 240, 80]], float)
    return np.stack([np.interp(share, np.linspace(0, 1, len(stops)), stops[:, c]) for c in range(3)], -1)
