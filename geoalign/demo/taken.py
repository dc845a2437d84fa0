"""Files to take away from the web page: matches, labels, and the dense tab's pictures."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from geoalign.apps.label_files import coco, write_csv
from geoalign.demo.actions import ROLES, Actions
from geoalign.demo.desk import Settings
from geoalign.demo.labelling import listed
from geoalign.demo.pair import Pair
from geoalign.demo.pictures import SHOWN_PX, write_results
from geoalign.demo.text import dense_words
from geoalign.draw.canvas import side_by_side

KEEP_SECONDS = 3600
"""Result files, and pictures sent to the browser, are deleted after this time."""


class Dense(NamedTuple):
    """The dense tab, words, and a file with its three pictures.

    These are the source in the colours of its places in the target, the target's colours, and the source over it.
    """

    pictures: tuple[Image.Image | None, Image.Image | None, Image.Image | None]
    words: str
    file: Path | None


class Taken:
    """Writes what a tab shows into folders below ``folder``."""

    def __init__(self, actions: Actions, folder: Path) -> None:
        self.actions, self.folder = actions, folder

    def matches(self, pair: Pair, settings: Settings) -> tuple[Path, Path, Path] | None:
        """json, csv and a picture of the points; None where there is none yet, or a picture was forgotten."""
        if not (pair.source and pair.target and pair.marks):
            return None
        whole = settings._replace(heat=False, zoom=1)
        try:
            scene = self.actions.scene(pair, whole)
        except ValueError:
            return None
        shown = [image for role in ROLES if (image := self.actions.drawn(pair, role, scene, whole)) is not None]
        if scene.matched is None or len(shown) < len(ROLES):
            return None
        folder, (source, target) = self._room(), (scene.kept[role].name for role in ROLES)
        json_path, csv_path = write_results(folder, (source, target), pair.marks, scene.matched.answer)
        page = side_by_side(shown, SHOWN_PX).page
        page.save(folder / "matches.png", compress_level=1)
        return json_path, csv_path, folder / "matches.png"

    def labels(self, pair: Pair) -> tuple[Path, Path] | None:
        """A csv and COCO keypoints of all labels that were kept; None where there are none."""
        if not pair.labels:
            return None
        folder, labels = self._room(), listed(pair)
        csv_path, json_path = folder / "keypoints.csv", folder / "keypoints.json"
        write_csv(labels, csv_path)
        json_path.write_text(json.dumps(coco(labels)), encoding="utf-8")
        return csv_path, json_path

    def dense(self, pair: Pair, settings: Settings) -> Dense:
        """The dense tab's pictures."""
        if not (pair.source and pair.target):
            return Dense((None, None, None), "Load two pictures first.", None)
        try:
            found = self.actions.desk.dense(pair, settings)
        except ValueError as error:
            return Dense((None, None, None), str(error), None)
        pictures = found.tinted, found.legend, found.warped
        path = self._room() / "dense.png"
        side_by_side(list(pictures)).page.save(path, compress_level=1)
        return Dense(pictures, dense_words(found), path)

    def _room(self) -> Path:
        """A new folder for files to take away; those that nobody took in time go."""
        for old in self.folder.glob("result-*"):
            with suppress(FileNotFoundError):  # another thread was faster
                if old.stat().st_mtime < time.time() - KEEP_SECONDS:
                    shutil.rmtree(old)
        return Path(tempfile.mkdtemp(prefix="result-", dir=self.folder))
