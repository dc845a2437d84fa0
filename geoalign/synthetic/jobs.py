"""Which picture an image id stands for, and rendering many of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import NamedTuple, TypeVar

from geoalign.synthetic.picture import SAMPLES, Picture, render
from geoalign.synthetic.scene import content_rng, random_scene

T = TypeVar("T")

RECIPE = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(Path(__file__).parent.glob("*.py")))).hexdigest()[:12]
"""Of the code that renders: pictures drawn by other code are not reused. A number would be forgotten."""


class Job(NamedTuple):
    """One image of a data set."""

    seed: int
    split: str
    category: str
    number: int

    @property
    def name(self) -> str:
        """The image's file name without extension."""
        return f"{self.category}_{self.split}_{self.number:04d}"

    def picture(self, samples: int = SAMPLES) -> Picture:
        """The picture, the same whenever and wherever it is asked for."""
        for attempt in count():
            rng = content_rng(self.seed, self.split, self.category, self.number, attempt)
            picture = render(random_scene(self.category, rng), samples)
            if picture.visible.sum() >= 5 and picture.mask.mean() > 0.02:  # else hidden by what stands before it
                return picture
        raise AssertionError("count() is endless")


def run(work: Callable[[Job], T], jobs: Sequence[Job], workers: int, progress: bool) -> list[T]:
    """Results in the order of the jobs; a bar appears after two seconds."""
    from tqdm import tqdm

    def results() -> Iterator[T]:
        if workers <= 1:
            yield from map(work, jobs)
            return
        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(work, jobs)

    return list(tqdm(results(), "rendering", len(jobs), unit=" images", delay=2, disable=not progress))
