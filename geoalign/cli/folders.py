"""``geoalign match`` of folders: every picture of one with every picture of another, as one csv."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

from geoalign.apps.folders import Found, match_folders, pictures_of
from geoalign.apps.inputs import local_path
from geoalign.apps.picture import Picture
from geoalign.apps.points import Points, match_rows, on_image
from geoalign.cli.commands import (
    check_outputs,
    given_points,
    loaded,
    mirror_pairs,
    tell_sides,
    tell_skipped,
    tell_stepped_back,
)
from geoalign.files import replacing
from geoalign.geometry import Pose

OUT = Path("matches.csv")
PLACES = ("source_x", "source_y", "target_x", "target_y")
COLUMNS = ("source", "target", "point", *PLACES, "score", "confidence", "visible", "pose")


def are_folders(options: argparse.Namespace) -> bool:
    """Whether the source or the target is a folder."""
    return any(local_path(place).is_dir() for place in (options.source, options.target))


def match(options: argparse.Namespace) -> None:
    """Writes the matches and says what was left out; ValueError where nothing could be matched."""
    _check(options)
    matcher = loaded(options)
    source, target = local_path(options.source), local_path(options.target)
    skipped, poses, stepped_back = list[str](), list[Pose](), False

    def points(path: Path, picture: Picture) -> Points:
        own, outside = on_image(given_points(options, picture, matcher, _name(path, source)), picture.size)
        skipped.extend(f"{path.name}: {line}" for line in outside)
        return own

    found = match_folders(
        matcher, source, target, points, skipped, options.align, lambda own: mirror_pairs(options, own), options.look
    )
    with replacing(options.out) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for one in found:
            writer.writerows(_rows(one, source, target))
            poses.append(one.answer.pose)
            stepped_back |= one.answer.stepped_back
        if not poses:
            raise ValueError("no picture could be matched: " + "; ".join(skipped or ["only one was given"]))
    print(f"{len(poses)} pairs of pictures\nwrote {options.out}")
    tell_stepped_back(stepped_back)
    tell_skipped(skipped)
    tell_sides(options, poses, [])


def _check(options: argparse.Namespace) -> None:
    """Before anything heavy: a csv to write, over none of the pictures; ValueError otherwise."""
    if options.out == Path("match.png"):  # nobody named one
        options.out = OUT
    if options.out.suffix.lower() != ".csv":
        raise ValueError(f"{options.out}: matches of folders are a csv; end its name in .csv")
    if options.json or options.box or options.target_box:
        raise ValueError("--json and boxes are for two pictures; matches of folders are a csv")
    pictures = [path for place in (options.source, options.target) for path in pictures_of(local_path(place))]
    check_outputs(options, [options.out], pictures)


def _rows(one: Found, source: Path, target: Path) -> Iterator[tuple[object, ...]]:
    names = _name(one.source, source), _name(one.target, target)
    for row in match_rows(one.points.names, one.points.xy_px.round(2), one.answer):
        sure = row["score"], row["confidence"], int(row["visible"]), str(one.answer.pose)
        yield *names, row["point"], *row["source"], *row["target"], *sure


def _name(path: Path, place: Path) -> str:
    """As its folder calls it."""
    return path.relative_to(place).as_posix() if place.is_dir() else path.name
