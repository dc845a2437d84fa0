"""Where photographs and subjects meet: cells from descriptors, and places in photographs from cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from geoalign.data.records import ImageRecord
from geoalign.geometry import FRAME_PX, content_cells, letterbox_points, unletterbox_points
from geoalign.passes.foreground import set_apart
from geoalign.pseudo.links import Filter
from geoalign.pseudo.subjects import Subject, subject_cells


@torch.no_grad()
def subject_of(record: ImageRecord, views: Float[Tensor, "2 c g g"], boxes: bool) -> Subject | None:
    """From descriptors, upright and mirrored; None where there is nothing to match. ``boxes``: look inside its box."""
    content = content_cells(record.size, views.shape[-1])
    foreground = set_apart(views[0].cpu(), content)
    if not boxes:
        return Subject.of(views.cpu(), foreground)
    corners = np.asarray(record.box_px, np.float64).reshape(2, 2)
    x1, y1, x2, y2 = letterbox_points(corners, record.size, FRAME_PX, record.framing).reshape(4).tolist()
    return Subject.of(views.cpu(), subject_cells(foreground, (x1, y1, x2, y2)))


def placed(filters: Mapping[str, Filter | None], records: Sequence[ImageRecord]) -> dict[str, Filter]:
    """The filters that are on; those that read predictions are told where photographs lie in their frames."""
    known = {record.image_id: record for record in records}

    def place(name: str, xy_px: Tensor) -> Tensor:
        size = known[name].size
        return unletterbox_points(xy_px, size, FRAME_PX, known[name].framing) / torch.tensor([size[1], size[0]])

    on: dict[str, Any] = {name: one for name, one in filters.items() if one is not None}
    return {name: replace(one, place=place) if hasattr(one, "place") else one for name, one in on.items()}
