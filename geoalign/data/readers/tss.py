"""TSS: image pairs with dense ground-truth flow, read as a grid of foreground points and where they go."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from PIL import ImageOps

from geoalign.data.images import image_size, open_mask, open_rgb
from geoalign.data.readers.flow import read_flow
from geoalign.data.readers.keypoints import points_box
from geoalign.data.readers.listed import ListedPairs, columns
from geoalign.data.records import DataError, ImageRecord, Threshold
from geoalign.data.validation import RESTORE, read_text
from geoalign.files import replacing

GROUPS = ("FG3DCar", "JODS", "PASCAL")


class Direction(NamedTuple):
    """One way of a pair folder: the points of image ``src`` in image ``trg`` (1 or 2), by ``flow<src>.flo``."""

    group: str
    folder: Path
    src: int
    trg: int
    mirrored: bool


class TSS(ListedPairs):
    """Pairs below ``root``: ``{FG3DCar,JODS,PASCAL}/<pair>/`` with two images, masks and flows, and ``flip_gt.txt``.

    ``flow<d>.flo`` leads from image ``d`` to the other one. Keypoints are at most ``slots`` points of a regular grid
    over the source's mask whose flow ends inside the target; its phase is drawn from ``seed`` and the pair's name.
    Where ``flip_gt.txt`` is 1 the flow ends in the target's mirror image. Published numbers count all foreground pixels
    at 0.05 of the image size; the grid is a sample of them.

    Args:
        root: holds FG3DCar/, JODS/, PASCAL/ with one folder per pair
        split: test; there is no other
        threshold: image: max(height, width) of the target image | box: of the points' extent
        slots: foreground points per pair, on a regular grid
        seed: of the grid's phase
        directions: 1: image1 to image2 by flow1.flo, 2: image2 to image1 by flow2.flo
        flipped: pairs whose flow ends in a mirror image: mirror: written and used | drop: left out
        mirror_dir: where mirror images are written; null: <root>/.mirrored
        categories: FG3DCar, JODS, PASCAL to keep; null: all
        max_pairs: keep so many pairs, evenly spaced; null: all
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        threshold: Threshold = "image",
        slots: int = 100,
        seed: int = 42,
        directions: Sequence[int] = (1, 2),
        flipped: Literal["mirror", "drop"] = "mirror",
        mirror_dir: str | Path | None = None,
        name: str = "tss",
        categories: Sequence[str] | None = None,
        max_pairs: int | None = None,
    ) -> None:
        root = Path(root)
        if split != "test" or flipped not in ("mirror", "drop") or not set(directions) <= {1, 2} or slots < 1:
            got = f"{split!r}, {flipped!r}, {list(directions)}, {slots}"
            raise ValueError(
                f"TSS takes split test, flipped mirror or drop, directions of 1 and 2, slots > 0; got {got}"
            )
        mirrors = Path(mirror_dir) if mirror_dir is not None else root / ".mirrored"
        notes: list[str] = []
        records: dict[str, ImageRecord] = {}
        pairs: dict[tuple[str, str], str] = {}
        for way in _directions(root, sorted(set(directions)), notes):
            if way.mirrored and flipped == "drop":
                notes.append(f"{way.folder / 'flip_gt.txt'}: mirrored pair left out")
                continue
            src, trg = _read(way, mirrors / way.group / way.folder.name, slots, seed)
            if not src.visible.any():
                notes.append(f"{way.folder / f'flow{way.src}.flo'}: no foreground point has a target; left out")
                continue
            records |= {src.image_id: src, trg.image_id: trg}
            pairs[src.image_id, trg.image_id] = way.group
        super().__init__(
            root, name, split, threshold, slots, *columns(records, pairs),
            keep=categories, max_pairs=max_pairs, notes=notes,
        )  # fmt: skip


def _directions(root: Path, wanted: Sequence[int], notes: list[str]) -> Iterator[Direction]:
    groups = [group for group in GROUPS if (root / group).is_dir()]
    if not groups:
        raise DataError.at(root, "folder", f"one of {', '.join(GROUPS)}", "none", "unpack TSS_CVPR2016 there")
    for group in groups:
        for folder in sorted(path for path in (root / group).iterdir() if path.is_dir()):
            file = folder / "flip_gt.txt"
            text = read_text(file).strip() if file.exists() else ""
            if text not in ("", "0", "1"):
                raise DataError.at(file, "flip", "0 or 1", text, RESTORE)
            if not text:
                notes.append(f"{file}: no flag, taken as 0 (not mirrored)")
            for src in wanted:
                yield Direction(group, folder, src, 3 - src, text == "1")


def _read(way: Direction, mirrors: Path, slots: int, seed: int) -> tuple[ImageRecord, ImageRecord]:
    pair_id = f"{way.group}/{way.folder.name}/{way.src}-{way.trg}"
    images = {i: way.folder / f"image{i}.png" for i in (way.src, way.trg)}
    masks = {i: way.folder / f"mask{i}.png" for i in (way.src, way.trg)}
    sizes = {i: image_size(path) for i, path in images.items()}
    flow = read_flow(way.folder / f"flow{way.src}.flo", sizes[way.src])
    src_xy = grid_points(open_mask(masks[way.src], sizes[way.src]), flow, sizes[way.trg], slots, seed, pair_id)
    columns, rows = src_xy.astype(int).T
    trg_xy = src_xy + flow[rows, columns]
    if way.mirrored:
        for paths in (images, masks):
            paths[way.trg] = _mirrored(paths[way.trg], mirrors)
    ends = ((way.src, src_xy, "src"), (way.trg, trg_xy, "trg"))
    src, trg = (_record(f"{pair_id}/{e}", images[i], sizes[i], way.group, xy, slots, masks[i]) for i, xy, e in ends)
    return src, trg


def grid_points(
    mask: Bool[np.ndarray, "h w"],
    flow: Float[np.ndarray, "h w 2"],
    trg_size: tuple[int, int],
    slots: int,
    seed: int,
    pair_id: str,
) -> Float[np.ndarray, "n 2"]:
    """At most ``slots`` pixel centres (x, y) in px of a regular grid over the usable foreground.

    Usable are pixels of ``mask`` whose ``flow`` is known and ends inside the target; none gives ``(0 2)``.
    """
    h, w = mask.shape
    centres = np.stack(np.meshgrid(np.arange(w) + 0.5, np.arange(h) + 0.5), -1)
    ends = centres + flow
    usable = mask & (ends >= 0).all(-1) & (ends < [trg_size[1], trg_size[0]]).all(-1)  # NaN compares false
    phase = np.random.default_rng([seed, zlib.crc32(pair_id.encode())]).random(2)
    step = max(1, int(np.sqrt(usable.sum() / slots)))
    while True:
        x0, y0 = (phase * step).astype(int)
        rows, columns = np.nonzero(usable[y0::step, x0::step])
        if len(rows) <= slots:
            return centres[rows * step + y0, columns * step + x0]
        step += 1


def _record(
    image_id: str, path: Path, size: tuple[int, int], group: str, xy: np.ndarray, slots: int, mask: Path
) -> ImageRecord:
    points, visible = np.zeros((slots, 2), np.float32), np.arange(slots) < len(xy)
    points[: len(xy)] = xy
    return ImageRecord(image_id, path, size, group, points, visible, points_box(points, visible, size), mask_path=mask)


def _mirrored(path: Path, folder: Path) -> Path:
    target = folder / path.name
    if not target.is_file() or target.stat().st_mtime_ns < path.stat().st_mtime_ns:
        mirror = ImageOps.mirror(open_rgb(path))
        try:
            with replacing(target) as partial:
                mirror.save(partial, "PNG")
        except OSError as error:
            raise DataError.at(target, "file", "to be writable", str(error), "set mirror_dir") from error
    return target
