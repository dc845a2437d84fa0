"""A model as one ONNX file: frames of two pictures and points in, matches out; what it says is compared with ours."""

from __future__ import annotations

import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from geoalign.apps.matcher import ImageMatcher
from geoalign.bank.plain import cells_of
from geoalign.files import replacing
from geoalign.geometry import cell_to_px, content_cells, letterbox
from geoalign.matching import transfer
from geoalign.refiner import Aggregation, Blend, Identity, Refiner
from geoalign.version import __version__

TOLERANCE = 1e-4
"""Largest difference of a score, and of a place as a share of the frame's side."""
POINTS = 20
REPEATS = 5
EXTRA = "export needs onnx, onnxscript and onnxruntime; pip install 'geoalign[export]'"


class Checked(NamedTuple):
    """How far the file's answers lie from ours on the pictures, and how long both take for a batch."""

    xy_px: float  # largest difference, px of the frame
    score: float
    onnx_s: float
    eager_s: float


class Pairs(nn.Module):
    """Backbone, refiner and readout over ``b`` pairs: the computation of :func:`transfer` without a bank's bookkeeping.

    Raises:
        ValueError: a refiner whose descriptors are not one per cell of a plain grid.
    """

    def __init__(self, matcher: ImageMatcher) -> None:
        super().__init__()
        check_refiner(matcher.refiner)
        self.backbone, self.refiner, self.matcher = matcher.backbone, matcher.refiner, matcher.matcher

    def forward(
        self, source: list[Tensor], target: list[Tensor], points: Tensor, inside: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Places ``(b n 2)`` in px of the target's frame and cosines ``(b n)``.

        ``source`` and ``target``: uint8 frames ``(b 3 s s)`` of every size that the backbone wants; ``points``
        ``(b n 2)`` in px of the source's frame; ``inside`` ``(b g g)``: which cells show the target.
        """
        b, n = points.shape[:2]
        sizes = self.backbone.image_sizes
        frames = {size: torch.cat(pair) for size, *pair in zip(sizes, source, target, strict=True)}
        cells = self.refiner(self.backbone(frames)).flatten(2).transpose(1, 2).float()
        grid, frame_px = self.refiner.grid, self.matcher.frame_px
        cell, weight = cells_of(points.flatten(0, 1), (grid, grid), frame_px / grid, self.matcher.source)
        index = cell.reshape(b, -1, 1).expand(-1, -1, cells.shape[-1])
        read = cells[:b].gather(1, index).unflatten(1, (n, -1)) * weight.unflatten(0, (b, n)).unsqueeze(-1)
        asked = read.sum(2)
        asked = F.normalize(asked, dim=-1) if self.matcher.source == "bilinear" else asked
        shown = cells[b:] * inside.flatten(1).unsqueeze(-1)
        similarity = (asked @ shown.transpose(1, 2)).flatten(0, 1)
        found = self.matcher.read(similarity.unflatten(-1, (grid, grid)), self.refiner.finer)
        xy_px = cell_to_px(found, frame_px / grid)
        return xy_px.unflatten(0, (b, n)), similarity.amax(-1).unflatten(0, (b, n))


def check_refiner(refiner: Refiner) -> None:
    """Refuse what no test has compared.

    Raises:
        ValueError: another refiner than identity, aggregation, or a blend of these.
    """
    inner = refiner.within if isinstance(refiner, Blend) else refiner
    if not isinstance(inner, Identity | Aggregation):
        name = type(inner).__name__
        raise ValueError(f"export takes refiner=identity, aggregation, or blend over one of them, got {name}")


def export(matcher: ImageMatcher, path: Path, pictures: Sequence[Image.Image], batch: int = 1) -> Checked:
    """Write the model for batches of ``batch`` pairs and any number of points, unless its answers differ from ours.

    ``pictures`` are two: points of a grid over the first are matched in the second.

    Raises:
        ImportError: the packages are missing.
        ValueError: a refiner that cannot be exported, or answers that differ by more than ``TOLERANCE``.
    """
    if batch < 1:
        raise ValueError(f"--batch counts pairs and is at least 1, got {batch}")
    pairs = Pairs(matcher).eval()
    onnx = need_onnx()
    given = inputs(matcher, pictures[0], pictures[1], batch, POINTS)
    eager = expected(matcher, given)  # also finds what a backbone looks for once
    sizes = len(matcher.backbone.image_sizes)
    names = [*frame_names(matcher, "source"), *frame_names(matcher, "target"), "points", "inside"]
    free = {"source": [None] * sizes, "target": [None] * sizes, "points": {1: torch.export.Dim.DYNAMIC}, "inside": None}
    with torch.no_grad(), warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            pairs, given, dynamo=True, verbose=False, input_names=names, output_names=["matches", "scores"],
            dynamic_shapes=free,
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, {"geoalign": json.dumps(facts(matcher, batch))})
    with replacing(path) as partial:
        onnx.save(model, str(partial))
        checked = check(matcher, partial, given, eager)
        worst = max(checked.xy_px / matcher.matcher.frame_px, checked.score)
        if not worst <= TOLERANCE:
            raise ValueError(
                f"the file's answers differ from ours by {checked.xy_px:.2g} px and {checked.score:.2g} in score, more "
                f"than {TOLERANCE:g}; nothing was written, try other pictures (flat ones have no clear peak)"
            )
    return checked


def check(matcher: ImageMatcher, path: Path, given: Any, eager: tuple[np.ndarray, np.ndarray]) -> Checked:
    """Run the file over what it was exported with, and over the first point alone."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = named(session, given)
    xy_px, score = session.run(None, feed)
    one = {**feed, "points": feed["points"][:, :1]}
    alone, alone_score = session.run(None, one)
    apart = [np.abs(xy_px - eager[0]).max(), np.abs(alone - eager[0][:, :1]).max()]
    apart_score = [np.abs(score - eager[1]).max(), np.abs(alone_score - eager[1][:, :1]).max()]
    return Checked(
        float(max(apart)),
        float(max(apart_score)),
        median_s(lambda: session.run(None, feed)),
        median_s(lambda: expected(matcher, given)),
    )


def named(session: Any, given: Any) -> dict[str, np.ndarray]:
    """What goes into each input of a session, in the order of :meth:`Pairs.forward`'s arguments."""
    source, target, points, inside = given
    names = [one.name for one in session.get_inputs()]
    return {name: tensor.numpy() for name, tensor in zip(names, [*source, *target, points, inside], strict=True)}


@torch.no_grad()
def expected(matcher: ImageMatcher, given: Any) -> tuple[np.ndarray, np.ndarray]:
    """What geoalign itself answers to the file's inputs."""
    source, target, points, inside = given
    sizes, b = matcher.backbone.image_sizes, len(points)
    maps = matcher.backbone({size: torch.cat(pair) for size, *pair in zip(sizes, source, target, strict=True)})
    bank = matcher.refiner.bank(maps, matcher.matcher.frame_px)
    shown = inside[:, :: matcher.refiner.finer, :: matcher.refiner.finer]
    bank = bank.hide(torch.cat([torch.ones_like(shown), shown]))
    at = torch.arange(b)
    matches = transfer(bank, at, at + b, points, matcher.matcher)
    return matches.xy_px.numpy(), matches.score.numpy()


def inputs(matcher: ImageMatcher, source: Image.Image, target: Image.Image, batch: int, n: int) -> Any:
    """Frames, ``n`` points spread over the source's content and the cells of the target's, ``batch`` times."""

    def frames(picture: Image.Image) -> list[Tensor]:
        made = (torch.from_numpy(np.array(letterbox(picture, size))) for size in matcher.backbone.image_sizes)
        return [frame.permute(2, 0, 1).expand(batch, -1, -1, -1).contiguous() for frame in made]

    grid, frame_px = matcher.refiner.grid, matcher.matcher.frame_px
    shown = content_cells((source.height, source.width), grid).nonzero().flip(-1)
    chosen = shown[torch.linspace(0, len(shown) - 1, n).round().long()].float()
    points = cell_to_px(chosen + torch.linspace(-0.4, 0.4, n).unsqueeze(-1), frame_px / grid)
    inside = content_cells((target.height, target.width), grid)
    return (
        frames(source), frames(target), points.expand(batch, -1, -1).contiguous(),
        inside.expand(batch, -1, -1).contiguous(),
    )  # fmt: skip


def frame_names(matcher: ImageMatcher, what: str) -> list[str]:
    """``source``, or ``source_840`` and so on where the backbone wants several sizes."""
    sizes = matcher.backbone.image_sizes
    return [what] if len(sizes) == 1 else [f"{what}_{size}" for size in sizes]


def facts(matcher: ImageMatcher, batch: int) -> dict[str, Any]:
    """What a user of the file must know: sizes of the frames, of the grid, and what was exported."""
    return {
        "version": __version__, "batch": batch, "frame_px": matcher.matcher.frame_px, "grid": matcher.refiner.grid,
        "image_sizes": list(matcher.backbone.image_sizes), "backbone": type(matcher.backbone).__name__,
        "refiner": type(matcher.refiner).__name__, "readout": matcher.matcher.readout,
    }  # fmt: skip


def need_onnx() -> Any:
    """The package, where all three are there; ImportError with the remedy."""
    try:
        import onnx
        import onnxruntime
        import onnxscript
    except ImportError as error:
        raise ImportError(EXTRA) from error
    assert onnxruntime
    assert onnxscript
    return onnx


def median_s(run: Callable[[], Any]) -> float:
    """Seconds of a call: the median after one to warm up."""
    run()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


class quiet:
    """The exporter logs its steps and what it could not optimise."""

    def __enter__(self) -> None:
        self.before = logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(self.before)
