"""What the catalogue says about a dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import geoalign.data
from geoalign.data.records import PairSource


class Source(NamedTuple):
    """A file to fetch into the dataset's folder.

    ``into`` is the folder below the root to unpack to; ``by_hand``: the host serves no plain download; ``optional``:
    the dataset is of use without it.
    """

    file: str
    url: str
    checksum: str | None = None
    unpack: bool = True
    strip: str = ""
    into: str = ""
    by_hand: bool = False
    optional: bool = False


class Published(NamedTuple):
    """A count of pairs from a dataset's paper, over one part or the sum of several."""

    parts: tuple[str, ...]
    pairs: int
    nearest: int = 1  # the published number is rounded to this


class Benchmark(NamedTuple):
    """One dataset.

    ``expected`` are the paths that show it is unpacked; ``parts`` are the reader's arguments per part. ``beside``
    gives reader arguments that default to folders next to the root, ``scratch`` one that verifying fills with a
    temporary folder. The command line may give the reader's ``options`` and those for ``making``. ``convert`` works
    on the unpacked folder, with or without a progress bar, and says what it did; where ``made`` is there, nothing is
    fetched and nothing converted; ``inventory`` counts what the
    reader does not: name to (found, published).
    """

    name: str
    title: str
    home: str
    licence: str
    reader: str
    parts: Mapping[str, Mapping[str, Any]]
    sources: tuple[Source, ...] = ()
    expected: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()
    images: int | None = None
    layout: Literal["", "spair", "pf_pascal"] = ""
    options: tuple[str, ...] = ()
    making: tuple[str, ...] = ()
    beside: Mapping[str, str] = {}
    scratch: str = ""
    made: tuple[str, ...] = ()
    convert: Callable[[Path, Mapping[str, str], bool], str] | None = None
    inventory: Callable[[Path], Mapping[str, tuple[int, int]]] | None = None

    def open(self, part: str, root: Path, options: Mapping[str, str], scratch: Path | None = None) -> PairSource:
        """The reader of one part; raises ``DataError`` where the folder is not sound enough to read."""
        reader: Callable[..., PairSource] = getattr(geoalign.data, self.reader)
        arguments: dict[str, Any] = {key: root.parent / folder for key, folder in self.beside.items()}
        if self.scratch and scratch is not None:
            arguments[self.scratch] = scratch
        return reader(**(arguments | dict(self.parts[part]) | dict(options)), root=root)
