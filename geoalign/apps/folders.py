"""Points of every picture of one folder in every picture of another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from geoalign.apps.inputs import Align, LookMode
from geoalign.apps.matcher import ImageMatcher
from geoalign.apps.picture import Answer, Picture
from geoalign.apps.points import Points
from geoalign.data.readers.folder import image_files
from geoalign.data.records import DataError

KEPT_BYTES = 2_000_000_000
"""Targets with their descriptors that stay in memory; the others are opened again for every source."""


class Found(NamedTuple):
    """One pair's points and where they lie in the target."""

    source: Path
    target: Path
    points: Points
    answer: Answer


def pictures_of(place: str | Path) -> list[Path]:
    """A folder's pictures, or the one picture."""
    return image_files(Path(place)) if Path(place).is_dir() else [Path(place)]


def match_folders(
    matcher: ImageMatcher,
    sources: str | Path,
    targets: str | Path,
    points: Callable[[Path, Picture], Points],
    skipped: list[str],
    align: Align = "off",
    mirror_pairs: Callable[[Points], Sequence[tuple[int, int]]] = lambda _: (),
    look: LookMode = "once",
) -> Iterator[Found]:
    """Every picture of ``sources`` with every other one of ``targets``; each is a folder or one picture.

    ``points`` says which of a source's points are looked for, and ``mirror_pairs`` which of them are each other's
    mirror image. A line on each picture that cannot be read, and each source that ``points`` refuses, goes to
    ``skipped``.
    """
    others = _Targets(matcher, pictures_of(targets), skipped)
    for source in tqdm(pictures_of(sources), desc="sources", disable=None):
        try:
            own = matcher.picture(source)
            wanted = points(source, own)
        except ValueError as error:
            skipped.append(f"{source}: {error}")
            continue
        pairs = mirror_pairs(wanted)
        for target, picture in others.without(source):
            yield Found(source, target, wanted, matcher.match(own, picture, wanted.xy_px, align, pairs, look))


class _Targets:
    """Pictures that are opened when they are first matched, and stay as long as there is room."""

    def __init__(self, matcher: ImageMatcher, files: Sequence[Path], skipped: list[str]) -> None:
        self.matcher, self.files, self.skipped = matcher, files, skipped
        self.kept, self.broken = dict[Path, Picture](), set[Path]()

    def without(self, source: Path) -> Iterator[tuple[Path, Picture]]:
        """All that can be read, but the source itself."""
        for file in self.files:
            if file in self.broken or file.samefile(source):
                continue
            try:
                picture = self.kept.get(file) or self.matcher.picture(file)
            except DataError as error:
                self.broken.add(file)
                self.skipped.append(str(error))
                continue
            yield file, picture
            if sum(map(_bytes, self.kept.values())) < KEPT_BYTES:
                self.kept[file] = picture


def _bytes(picture: Picture) -> int:
    """Pixels and descriptors."""
    return 4 * picture.image.width * picture.image.height + picture.nbytes
