"""A folder of photographs made ready to learn from: what can be read, once each, with maps and subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from geoalign.apps.inputs import open_picture
from geoalign.apps.subject import doubt
from geoalign.backbone.base import Backbone
from geoalign.data.batch.views import ViewRef
from geoalign.data.readers.folder import image_files
from geoalign.data.records import DataError, ImageRecord
from geoalign.files import FileError, sha256
from geoalign.geometry import FLIP, UPRIGHT, Pose, content_cells, letterbox, pose_image
from geoalign.passes.foreground import set_apart
from geoalign.pseudo.subjects import Subject
from geoalign.refiner.base import Refiner
from geoalign.types import Maps, Views

SHOWN_PX = 640
"""Photographs are kept so large, to be drawn."""


@dataclass(frozen=True, eq=False)
class Photograph:
    """One of the folder: its record, a small copy, its frozen maps in both poses, and its subject in them."""

    record: ImageRecord
    small: Image.Image
    maps: Mapping[Pose, Maps]
    subject: Subject
    doubt: str = ""  # of its subject


class MapsLoader:
    """Views from memory: a :class:`geoalign.data.batch.views.ViewLoader`."""

    def __init__(self, photographs: Sequence[Photograph]) -> None:
        self.maps = {photograph.record.image_id: photograph.maps for photograph in photographs}

    def __call__(self, views: Sequence[ViewRef]) -> Views:
        """Their maps, stacked."""
        each = [self.maps[ref.image.image_id][ref.pose] for ref in views]
        return {"maps": [torch.cat(parts) for parts in zip(*each, strict=True)]}


def read_folder(
    folder: Path, backbone: Backbone, frozen: Refiner, device: str = "cpu"
) -> tuple[list[Photograph], list[str]]:
    """Every photograph with a subject, and a line on each file that was left out.

    A photograph's category is the subfolder that it lies in. Broken files, copies of the same bytes and photographs
    without a subject are left out. Raises DataError where the folder is none or holds no picture's name.
    """
    found, skipped, met = list[Photograph](), list[str](), dict[str, str]()
    for file in tqdm(image_files(folder), desc="photographs"):
        name = file.relative_to(folder).as_posix()
        try:
            content = sha256(file)
            if content in met:
                skipped.append(f"{name}: the same as {met[content]}")
                continue
            one = read_photograph(open_picture(file), file, name, backbone, frozen, device)
        except (DataError, FileError, OSError) as error:
            skipped.append(f"{name}: {error}")
            continue
        met[content] = name
        if one is None:
            skipped.append(f"{name}: no subject stands out from its background")
        else:
            found.append(one)
    return found, skipped


@torch.no_grad()
def read_photograph(
    image: Image.Image, file: Path, name: str, backbone: Backbone, frozen: Refiner, device: str
) -> Photograph | None:
    """Maps of a picture that is open, and its subject; None where it has none."""
    maps = {pose: _maps(image, pose, backbone, device) for pose in (UPRIGHT, FLIP)}
    views = torch.cat([frozen.to(device)(tuple(part.to(device) for part in maps[pose])) for pose in (UPRIGHT, FLIP)])
    size = image.height, image.width
    empty = np.zeros((1, 2), np.float32), np.zeros(1, bool)
    category = Path(name).parent.name or "object"
    record = ImageRecord(name, file, size, category, *empty, (0.0, 0.0, float(size[1]), float(size[0])))
    content = content_cells(size, views.shape[-1])
    cells = set_apart(views[0].cpu(), content)
    subject = Subject.of(views.cpu(), cells)
    if subject is None:
        return None
    small = image.copy()
    small.thumbnail((SHOWN_PX, SHOWN_PX))
    return Photograph(record, small, maps, subject, doubt(cells, content))


def _maps(image: Image.Image, pose: Pose, backbone: Backbone, device: str) -> tuple[Tensor, ...]:
    squares = {side: pose_image(np.array(letterbox(image, side)), pose) for side in backbone.image_sizes}
    frames = {side: torch.from_numpy(square).permute(2, 0, 1)[None].to(device) for side, square in squares.items()}
    return tuple(part.cpu() for part in backbone(frames))
