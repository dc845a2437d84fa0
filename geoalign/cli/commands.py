"""What the subcommands do: look, match, draw, write, and say so."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from geoalign.apps.loading import load
from geoalign.apps.matcher import Answer, ImageMatcher, View
from geoalign.apps.pictures import name_of, open_picture
from geoalign.apps.points import Points, grid_points, on_image, parse_points, read_points_file
from geoalign.apps.propagate import Task, labelled, write_all
from geoalign.data.images import open_mask
from geoalign.data.readers.folder import MOST_SLOTS
from geoalign.data.records import DataError
from geoalign.data.symmetry_table import read_symmetries
from geoalign.draw.canvas import side_by_side
from geoalign.draw.field import draw_field, warp
from geoalign.draw.pca import shared_colours, stack_pictures
from geoalign.draw.points import draw_matches

SHOWN_PX = 900
"""Pictures are drawn at most this large."""


def match(options: argparse.Namespace) -> None:
    """Points of the source in the target: a table or json, and a picture."""
    matcher, source, target = _opened(options)
    points, skipped = on_image(given_points(options, source), source.size)
    answer = matcher.match(source, target, points.xy_px, options.align, mirror_pairs(options, points))
    small = [_shrunk(view.picture) for view in (source, target)]
    factors = [small[0].width / source.size[1], small[1].width / target.size[1]]
    page = draw_matches(small[0], small[1], points.xy_px * factors[0], answer.xy_px * factors[1], points.names)
    _save(page, options.out)
    if options.json:
        print(json.dumps(_plain(points, answer, skipped)))
        return
    console = Console()
    if len(points.names) <= 40:
        console.print(_table(points, answer))
    console.print(
        f"{len(points.names)} points, mean score {answer.score.mean():.2f}, pose of the source: {answer.pose}\n"
        f"wrote {options.out}", highlight=False,
    )  # fmt: skip
    tell_skipped(console, skipped)


def dense(options: argparse.Namespace) -> None:
    """Both pictures in the colours of the target's places, and the source laid over the target."""
    matcher, source, target = _opened(options)
    mask = None if options.mask is None else _mask(options.mask, source)
    field = matcher.dense(source, target, mask, options.align)
    if not field.inside.any():
        raise ValueError(f"{options.mask} leaves no part of the source; white is matched, black is not")
    back = matcher.dense_back(source, target, field.pose)
    small, small_trg = _shrunk(source.picture), _shrunk(target.picture)
    tinted, legend = draw_field(small, small_trg, field.xy_px * (small_trg.width / target.size[1]))
    kept = None if mask is None else np.asarray(Image.fromarray(mask).resize(small.size))
    warped = warp(small, small_trg, back.xy_px * (small.width / source.size[1]), kept)
    _save(side_by_side([tinted, legend, warped]).page, options.out)
    told = f"{int(field.inside.sum())} cells, mean score {np.nanmean(field.score):.2f}"
    Console().print(
        f"{told}, pose of the source: {field.pose}\nleft: each part of the source in the colour of its place in the "
        f"target; middle: the target's colours; right: the source laid over the target\nwrote {options.out}",
        highlight=False,
    )


def pca(options: argparse.Namespace) -> None:
    """Pictures over their descriptors in colours that mean the same in each; unreadable pictures are left out."""
    matcher = load(options.model, device=options.device)
    views, skipped = list[View](), list[str]()
    for image in tqdm(options.images, desc="pictures", disable=len(options.images) < 3):
        try:
            views.append(matcher.view(image))
            matcher.features(views[-1])
        except DataError as error:
            skipped.append(f"{name_of(image)}: {error}")
    if not views:
        raise ValueError("none of the pictures can be read: " + "; ".join(skipped))
    maps = shared_colours([matcher.features(v).cpu().numpy() for v in views], [matcher.content(v) for v in views])
    _save(stack_pictures([_shrunk(v.picture) for v in views], maps), options.out)
    console = Console()
    console.print(f"{len(views)} pictures\nwrote {options.out}", highlight=False)
    tell_skipped(console, skipped)


def propagate(options: argparse.Namespace) -> None:
    """The source's points in every picture of the folder, as csv and COCO json, and a contact sheet."""
    matcher = load(options.model, device=options.device)
    source = matcher.view(options.source)
    points, skipped = on_image(given_points(options, source), source.size)
    task = Task(source, Path(options.source), points, options.align, mirror_pairs(options, points))
    found, broken = labelled(matcher, task, options.folder)
    csv_path, json_path, sheet = write_all(found, points.names, options.out, options.category, options.folder)
    console = Console()
    scores = [float(label.answer.score.mean()) for label in found]
    console.print(f"{len(found)} pictures, {len(points.names)} points each, mean score {np.mean(scores):.2f}")
    console.print(f"wrote {csv_path}, {json_path} and {sheet}: correct the csv by hand", highlight=False)
    tell_skipped(console, skipped + broken)


def demo(options: argparse.Namespace) -> None:
    """The web page, until it is interrupted."""
    from geoalign.demo.server import need_gradio, serve

    need_gradio()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that being told to stop also tidies up
    serve(load(options.model, device=options.device), options.host, options.port, options.cache)


def given_points(options: argparse.Namespace, source: View) -> Points:
    """The points that ``--points``, ``--points-file`` or ``--grid`` name."""
    if options.grid is not None:
        return grid_points(options.grid, source.size)
    if options.points_file is not None:
        return read_points_file(options.points_file, _image_in(options))
    if len(options.points) == 1 and options.points[0].lower().endswith(".csv"):
        return read_points_file(Path(options.points[0]), _image_in(options))
    return parse_points(options.points)


def mirror_pairs(options: argparse.Namespace, points: Points) -> list[tuple[int, int]]:
    """Numbers of the points that ``--symmetry`` calls each other's mirror image."""
    if options.symmetry is None:
        return []
    tables = read_symmetries(options.symmetry, MOST_SLOTS, [options.category])
    if options.category not in tables or not tables[options.category].names:
        raise ValueError(f"{options.symmetry} has no table with names for {options.category!r}; set --category")
    names, place = tables[options.category].names, {name: i for i, name in enumerate(points.names)}
    named = [(names[a], names[b]) for a, b in tables[options.category].mirror_pairs]
    return [(place[a], place[b]) for a, b in named if a in place and b in place]


def tell_skipped(console: Console, skipped: list[str]) -> None:
    """What was left out and why, one line each."""
    if skipped:
        console.print(f"skipped {len(skipped)}:", style="yellow")
        for line in skipped:
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _image_in(options: argparse.Namespace) -> str:
    """How a points file names the source: below the folder for propagate, else by its file name."""
    folder = getattr(options, "folder", None)
    source = Path(options.source)
    if folder is not None and source.resolve().is_relative_to(folder.resolve()):
        return source.resolve().relative_to(folder.resolve()).as_posix()
    return name_of(options.source)


def _opened(options: argparse.Namespace) -> tuple[ImageMatcher, View, View]:
    """The matcher and both pictures; these first, as they are what is most often wrong."""
    pictures = [open_picture(name) for name in (options.source, options.target)]
    if pictures[0] == pictures[1]:
        print("note: both pictures are the same; every point should find itself", file=sys.stderr)
    return load(options.model, device=options.device), View(pictures[0]), View(pictures[1])


def _mask(path: Path, source: View) -> np.ndarray:
    mask = open_mask(path)
    if mask.shape != source.size:
        want, got = "{}x{}".format(*source.size), "{}x{}".format(*mask.shape)
        raise DataError.at(path, "size", f"{want} (h x w) as the source", got, "give a mask of the source's size")
    return mask


def _shrunk(picture: Image.Image) -> Image.Image:
    small = picture.copy()
    small.thumbnail((SHOWN_PX, SHOWN_PX), Image.Resampling.LANCZOS)
    return small


def _save(page: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path)


def _plain(points: Points, answer: Answer, skipped: list[str]) -> dict[str, object]:
    rows = zip(points.names, points.xy_px.tolist(), answer.xy_px.tolist(), answer.score.tolist(), strict=True)
    matches = [
        {"point": n, "source": s, "target": [round(v, 2) for v in t], "score": round(c, 4)} for n, s, t, c in rows
    ]
    return {"pose": str(answer.pose), "matches": matches, "skipped": skipped}


def _table(points: Points, answer: Answer) -> Table:
    table = Table("point", "source x, y", "target x, y", "score")
    for name, start, end, score in zip(points.names, points.xy_px, answer.xy_px, answer.score, strict=True):
        table.add_row(name, f"{start[0]:.0f}, {start[1]:.0f}", f"{end[0]:.0f}, {end[1]:.0f}", f"{score:.2f}")
    return table
