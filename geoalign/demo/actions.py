"""What happens on the web page: every event to what the page shows then, without a word of the page's library."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from geoalign.demo.desk import Desk, Matched, Pair, Settings
from geoalign.demo.examples import Example
from geoalign.demo.pictures import heated, mark, match_page, write_results
from geoalign.demo.text import pose_in_words, readout, table
from geoalign.draw.canvas import side_by_side
from geoalign.draw.field import draw_field, warp

MOST_POINTS = 50
KEEP_SECONDS = 3600
"""Result files, and pictures sent to the browser, are deleted after this time."""


class Shown(NamedTuple):
    """All that an event may change."""

    pair: Pair
    source: Image.Image | None
    target: Image.Image | None
    readout: str
    table: str


class Dense(NamedTuple):
    """The dense tab, words, and a file with its three pictures.

    These are the source in the colours of its places in the target, the target's colours, and the source over it.
    """

    pictures: tuple[Image.Image | None, Image.Image | None, Image.Image | None]
    words: str
    file: Path | None


class Actions:
    """Events by name; each takes the pair that the browser shows and the switches, and returns what to show."""

    def __init__(self, desk: Desk, examples: Sequence[Example], folder: Path) -> None:
        self.desk, self.examples, self.folder = desk, examples, folder

    def load(self, role: str, path: Path, name: str, pair: Pair, settings: Settings, session: str = "") -> Shown:
        """A picture in the place of ``source`` or ``target``; what cannot be read leaves all as it was."""
        try:
            key = self.desk.open(path, name, session)
        except (ValueError, OSError) as error:
            return self.show(pair, settings, str(error))
        return self.show(_replaced(pair, role, key), settings)

    def remove(self, role: str, pair: Pair, settings: Settings) -> Shown:
        """The source or the target taken away."""
        return self.show(_replaced(pair, role, ""), settings)

    def example(self, number: int, settings: Settings) -> Shown:
        """One of the examples."""
        example = self.examples[number]
        try:
            return self.show(Pair(self.desk.open(example.source), self.desk.open(example.target)), settings)
        except (ValueError, OSError):
            return self.show(Pair(), settings, "The example is no longer there; start the page again.")

    def click(self, xy_px: Sequence[float], pair: Pair, settings: Settings) -> Shown:
        """A point of the source, told in px of the picture as it is shown."""
        if not pair.target:
            return self.show(pair, settings, "Load a target too, then click again.")
        if len(pair.points) >= MOST_POINTS:
            return self.show(pair, settings, f"{MOST_POINTS} points are the most; clear them first.")
        try:
            kept = self.desk.kept(pair.source)
        except ValueError as error:
            return self.show(pair, settings, str(error))
        place = np.clip(np.asarray(xy_px, float) / _scale(kept.image, kept.small), 0, kept.image.size)
        return self.show(pair._replace(points=(*pair.points, (float(place[0]), float(place[1])))), settings)

    def show(self, pair: Pair, settings: Settings, message: str = "") -> Shown:
        """The pair under the switches as they are."""
        try:
            matched = self.desk.match(pair, settings) if pair.source and pair.target else None
            source, target = self._marked(pair, matched, settings.heat)
        except ValueError as error:
            return Shown(Pair(), None, None, readout(Pair(), None, str(error)), table(Pair(), None))
        answer = matched.answer if matched else None
        return Shown(pair, source, target, readout(pair, answer, message), table(pair, answer))

    def files(self, pair: Pair, settings: Settings) -> tuple[Path, Path, Path] | None:
        """json, csv and a picture of the points; None where there is none yet, or a picture was forgotten."""
        if not (pair.source and pair.target and pair.points):
            return None
        try:
            source, target = self.desk.kept(pair.source), self.desk.kept(pair.target)
            answer, points = self.desk.match(pair, settings).answer, np.array(pair.points)
        except ValueError:
            return None
        folder = self._results()
        json_path, csv_path = write_results(folder, (source.name, target.name), points, answer)
        scales = _scale(source.image, source.small), _scale(target.image, target.small)
        page = match_page(source.small, target.small, points * scales[0], answer.xy_px * scales[1])
        page.save(folder / "matches.png", compress_level=1)
        return json_path, csv_path, folder / "matches.png"

    def dense(self, pair: Pair, settings: Settings) -> Dense:
        """The dense tab's pictures."""
        if not (pair.source and pair.target):
            return Dense((None, None, None), "Load two pictures first.", None)
        try:
            source, target = self.desk.kept(pair.source), self.desk.kept(pair.target)
            there, back = self.desk.dense(pair, settings)
        except ValueError as error:
            return Dense((None, None, None), str(error), None)
        tinted, legend = draw_field(source.small, target.small, there.xy_px * _scale(target.image, target.small))
        warped = warp(source.small, target.small, back.xy_px * _scale(source.image, source.small))
        path = self._results() / "dense.png"
        side_by_side([tinted, legend, warped]).page.save(path, compress_level=1)
        cells, score = int(there.inside.sum()), float(np.nanmean(there.score))
        words = f"{cells} cells, mean score {score:.2f}, pose of the source: {pose_in_words(there.pose)}."
        return Dense((tinted, legend, warped), words, path)

    def _results(self) -> Path:
        """A new folder for files to take away; those that nobody took in time go."""
        for old in self.folder.glob("result-*"):
            with suppress(FileNotFoundError):  # another thread was faster
                if old.stat().st_mtime < time.time() - KEEP_SECONDS:
                    shutil.rmtree(old)
        return Path(tempfile.mkdtemp(prefix="result-", dir=self.folder))

    def _marked(self, pair: Pair, matched: Matched | None, heat: bool) -> tuple[Image.Image | None, Image.Image | None]:
        source = self.desk.kept(pair.source) if pair.source else None
        target = self.desk.kept(pair.target) if pair.target else None
        if source is None or target is None or matched is None or not pair.points:
            return (source.small if source else None), (target.small if target else None)
        below = heated(target.small, matched.heat if heat else None)
        return (
            mark(source.small, np.array(pair.points) * _scale(source.image, source.small)),
            mark(below, matched.answer.xy_px * _scale(target.image, target.small)),
        )


def _replaced(pair: Pair, role: str, key: str) -> Pair:
    """Another source makes its points meaningless; they stay with another target."""
    return pair._replace(source=key, points=()) if role == "source" else pair._replace(target=key)


def _scale(picture: Image.Image, small: Image.Image) -> np.ndarray:
    """Shown px per original px, by axis: pictures of a few pixels are not scaled alike."""
    return np.array([small.width / picture.width, small.height / picture.height])
