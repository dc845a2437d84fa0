"""What the subcommands do: look, match, draw, write, and say so."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from geoalign.apps.inputs import local_path, open_picture
from geoalign.apps.loading import load
from geoalign.apps.matcher import ImageMatcher
from geoalign.apps.overlay import certain, overlay
from geoalign.apps.picture import Picture
from geoalign.apps.points import (
    Points,
    grid_points,
    match_rows,
    on_image,
    on_mask,
    parse_box,
    parse_points,
    read_points_file,
)
from geoalign.apps.propagate import label_files, label_folder, write_labels
from geoalign.data.images import open_mask
from geoalign.data.readers.folder import MOST_SLOTS, image_files
from geoalign.data.records import DataError
from geoalign.data.symmetry_table import read_symmetries
from geoalign.draw.canvas import side_by_side
from geoalign.draw.pca import shared_colours, stack_pictures
from geoalign.draw.points import draw_matches
from geoalign.files import check_output, replacing
from geoalign.geometry import Pose

SHOWN_PX = 900
"""Pictures are drawn at most this large."""
MOST_ROWS = 40
"""More points than this make no table."""


def match(options: argparse.Namespace) -> None:
    """Points of the source in the target: a table or json, and a picture."""
    matcher, source, target = _opened(options)
    points, skipped = on_image(given_points(options, source, matcher), source.size)
    pairs = mirror_pairs(options, points)
    answer = matcher.match(source, target, points.xy_px, options.align, pairs, options.look)
    (small, scale), (small_trg, scale_trg) = _shrunk(source), _shrunk(target)
    drawn = points.xy_px * scale, answer.xy_px * scale_trg, points.names, answer.confidence, answer.visible
    _save(draw_matches(small, small_trg, *drawn), options.out)
    rows = match_rows(points.names, points.xy_px, answer)
    tell_sides(options, [answer.pose], pairs)
    if options.json:
        facts = {"pose": str(answer.pose), "stepped_back": answer.stepped_back}
        print(json.dumps({**facts, "matches": rows, "skipped": skipped}))
        return
    if len(rows) <= MOST_ROWS:
        table = Table("point", "source x, y", "target x, y", "score", "confidence")
        for row in rows:
            (x, y), (to_x, to_y) = row["source"], row["target"]
            sure = f"{row['confidence']:.2f}" + ("" if row["visible"] else " not visible")
            table.add_row(
                str(row["point"]), f"{x:.0f}, {y:.0f}", f"{to_x:.0f}, {to_y:.0f}", f"{row['score']:.2f}", sure
            )
        Console(markup=False, emoji=False).print(table)  # a point may be called [red] or :cat:
    means = f"mean score {answer.score.mean():.2f}, mean confidence {answer.confidence.mean():.2f}"
    print(f"{len(rows)} points, {means}, pose of the source: {answer.pose}")
    tell_stepped_back(answer.stepped_back)
    print(f"wrote {options.out}")
    tell_skipped(skipped)


def dense(options: argparse.Namespace) -> None:
    """Both pictures in the colours of the target's places, and the source laid over the target."""
    matcher, source, target = _opened(options)
    mask = None if options.mask is None else open_mask(options.mask)
    small = _shrunk(source)[0], _shrunk(target)[0]
    found = overlay(matcher, (source, target), small, mask, not options.no_mask, options.align)
    _save(side_by_side([found.tinted, found.legend, found.warped]).page, options.out)
    tell_doubts(found.doubts)
    tell_stepped_back(found.stepped_back)
    print(
        f"{found.cells} cells, mean score {found.score:.2f}, pose of the source: {found.pose}\n"
        "left: each part of the source in the colour of its place in the target; middle: the target's colours; "
        f"right: the source laid over the target\nwrote {options.out}"
    )


def pca(options: argparse.Namespace) -> None:
    """Pictures over their descriptors in colours that mean the same in each; unreadable pictures are left out."""
    _check_pictures_out(options)
    matcher = loaded(options)
    pictures, skipped = list[Picture](), list[str]()
    for image in tqdm(options.images, desc="pictures", disable=len(options.images) < 3):
        try:
            pictures.append(matcher.picture(image))
        except DataError as error:
            skipped.append(f"{local_path(image).name}: {error}")
    if not pictures:
        raise ValueError("none of the pictures can be read: " + "; ".join(skipped))
    able, shown = matcher.suited(*pictures)
    descriptors, doubts = [able.features(picture).cpu().numpy() for picture in shown], list[str]()
    cells = [_subject_cells(able, picture, options, f"picture {i + 1}", doubts) for i, picture in enumerate(shown)]
    _save(stack_pictures([_shrunk(p)[0] for p in pictures], shared_colours(descriptors, cells)), options.out)
    tell_doubts(doubts)
    tell_stepped_back(able is not matcher)
    print(f"{len(pictures)} pictures\nwrote {options.out}")
    tell_skipped(skipped)


def propagate(options: argparse.Namespace) -> None:
    """The source's points in every picture of the folder, as csv and COCO json, and a contact sheet."""
    files, source_path = label_files(options.out, options.folder), local_path(options.source)
    check_outputs(options, files, image_files(options.folder))
    matcher = loaded(options)
    source = matcher.picture(options.source, parse_box(options.box))
    points, skipped = on_image(given_points(options, source, matcher), source.size)
    pairs = mirror_pairs(options, points)
    labels, broken = label_folder(matcher, source, points, options.folder, options.align, pairs, source_path)
    write_labels(labels, points.names, files, options.category)
    score = np.mean([label.answer.score.mean() for label in labels])
    print(f"{len(labels)} pictures, {len(points.names)} points each, mean score {score:.2f}")
    tell_stepped_back(any(label.answer.stepped_back for label in labels))
    print("wrote {}, {} and {}: correct the csv by hand".format(*files))
    tell_skipped(skipped + broken)
    tell_sides(options, [label.answer.pose for label in labels], pairs)


def demo(options: argparse.Namespace) -> None:
    """The web page, until it is interrupted."""
    from geoalign.demo.server import leave, need_gradio, serve

    need_gradio()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that being told to stop also tidies up
    serve(loaded(options), options.host, options.port, options.cache, str(options.model), options.folder)
    leave()


def check_outputs(options: argparse.Namespace, outputs: Sequence[Path], pictures: Sequence[Path] = ()) -> None:
    """Refuses, before any work, to write over ``pictures`` or any file that another option names.

    Raises FileError, also for another file that is there already, unless ``--force``.
    """
    own = {"command", "out", "force", "json", "align", "category", "device", "grid", "refiner"}
    own |= {"look", "no_mask", "box", "target_box"}
    values = [value for key, value in vars(options).items() if key not in own and value is not None]
    words = [word for value in values for word in (value if isinstance(value, list) else [value])]
    for output in outputs:
        check_output(output, [*map(local_path, words), *pictures], options.force)


def given_points(
    options: argparse.Namespace, source: Picture, matcher: ImageMatcher, name: str | None = None
) -> Points:
    """The points that ``--points``, ``--points-file`` or ``--grid`` name; a grid's lie on a sure subject."""
    if options.grid is not None:
        every, doubts = grid_points(options.grid, source.size), list[str]()
        mask = None if options.no_mask else certain(matcher, source, "source", doubts)
        tell_doubts(doubts)
        return every if mask is None else on_mask(every, mask)
    if options.points_file is None and not (len(options.points) == 1 and options.points[0].lower().endswith(".csv")):
        return parse_points(options.points)
    path = local_path(options.source).resolve()
    name = name or local_path(options.source).name
    if options.command == "propagate" and path.is_relative_to(options.folder.resolve()):
        name = path.relative_to(options.folder.resolve()).as_posix()
    return read_points_file(options.points_file or Path(options.points[0]), name)


def mirror_pairs(options: argparse.Namespace, points: Points) -> list[tuple[int, int]]:
    """Numbers of the points that ``--symmetry`` calls each other's mirror image."""
    if options.symmetry is None:
        return []
    table = read_symmetries(options.symmetry, MOST_SLOTS, [options.category]).get(options.category)
    if table is None or not table.names:
        raise ValueError(f"{options.symmetry} has no table with names for {options.category!r}; set --category")
    place = {name: i for i, name in enumerate(points.names)}
    named = [(table.names[a], table.names[b]) for a, b in table.mirror_pairs]
    return [(place[a], place[b]) for a, b in named if a in place and b in place]


def tell_stepped_back(stepped_back: bool) -> None:
    """That the refiner in the box was not used."""
    if stepped_back:
        print("frozen features matched pictures unlike those that the refiner in the box has learned from")


def tell_doubts(doubts: Sequence[str]) -> None:
    """Subjects that were not used, and what helps."""
    for doubt in doubts:
        print(f"note: {doubt}; --box or a mask says where it is, --no-mask asks for all", file=sys.stderr)


def tell_sides(options: argparse.Namespace, poses: Sequence[Pose], pairs: Sequence[tuple[int, int]]) -> None:
    """That mirrored sources swap left and right, where nothing says which points are each other's mirror image."""
    flipped = sum(pose.flip for pose in poses)
    if flipped and not pairs and options.grid is None:
        which = f"in {flipped} of {len(poses)} pictures " if len(poses) > 1 else ""
        print(
            f"note: {which}the source was matched mirrored: left and right trade places; name the points and give "
            "--symmetry to keep them", file=sys.stderr,
        )  # fmt: skip


def tell_skipped(skipped: list[str]) -> None:
    """What was left out and why, one line each."""
    if skipped:
        print("\n  ".join([f"skipped {len(skipped)}:", *skipped]))


def _subject_cells(
    matcher: ImageMatcher, picture: Picture, options: argparse.Namespace, name: str, doubts: list[str]
) -> Bool[np.ndarray, "g g"]:
    """The subject's cells, or all of the picture's."""
    if not options.no_mask and certain(matcher, picture, name, doubts) is not None:
        return matcher.subject(picture).cells
    return matcher.content(picture)


def _opened(options: argparse.Namespace) -> tuple[ImageMatcher, Picture, Picture]:
    """The matcher and both pictures; these first, as they are what is most often wrong."""
    _check_pictures_out(options)
    source, target = open_picture(options.source), open_picture(options.target)
    if source == target:
        print("note: both pictures are the same; every point should find itself", file=sys.stderr)
    pictures = Picture(source).within(parse_box(options.box)), Picture(target).within(parse_box(options.target_box))
    return loaded(options), *pictures


def loaded(options: argparse.Namespace) -> ImageMatcher:
    """The model that the options name."""
    confidence = getattr(options, "confidence", None)  # only match and propagate take one
    return load(options.model, device=options.device, confidence=confidence, refiner=options.refiner)


def _check_pictures_out(options: argparse.Namespace) -> None:
    _format(options.out)
    check_outputs(options, [options.out])


def _format(path: Path) -> str:
    """Pillow's name for the kind of picture that a file is named as."""
    name = Image.registered_extensions().get(path.suffix.lower(), "")
    if name not in Image.SAVE:
        raise ValueError(f"{path}: expected a picture's name such as .png or .jpg, got {path.suffix!r}; rename it")
    return name


def _shrunk(picture: Picture) -> tuple[Image.Image, float]:
    """A picture as it is drawn, and px of that per px of its own."""
    small = picture.image.copy()
    small.thumbnail((SHOWN_PX, SHOWN_PX), Image.Resampling.LANCZOS)
    return small, small.width / picture.image.width


def _save(page: Image.Image, path: Path) -> None:
    with replacing(path) as partial:
        page.save(partial, format=_format(path))
