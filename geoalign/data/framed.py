"""A dataset whose pictures fill their frames in another way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import SupportsIndex, overload

from geoalign.data.records import ImageRecord, PairRecord, PairSource
from geoalign.geometry import Framing

FACTS = ("name", "split", "threshold", "slots", "categories", "symmetries")


class Framed(PairSource):
    """The pairs of ``source``, framed by ``framing``; every other fact is the source's."""

    def __init__(self, source: PairSource, framing: Framing) -> None:
        self.source, self.framing = source, framing
        for fact in FACTS:
            setattr(self, fact, getattr(source, fact))
        self._images = [image._replace(framing=framing) for image in source.images]

    @property
    def images(self) -> Sequence[ImageRecord]:
        """Every image of the pairs, once."""
        return self._images

    def cliques(self) -> Sequence[Sequence[int]]:
        """The source's."""
        return self.source.cliques()

    def fingerprint(self) -> str:
        """The source's: annotations are of the picture, not of its frame."""
        return self.source.fingerprint()

    def __len__(self) -> int:
        return len(self.source)

    @overload
    def __getitem__(self, index: int) -> PairRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[PairRecord]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> PairRecord | Sequence[PairRecord]:
        """The pair at ``index``; slices give lists."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        pair = self.source[index.__index__()]
        src, trg = (image._replace(framing=self.framing) for image in (pair.src, pair.trg))
        return pair._replace(src=src, trg=trg)


def framed(source: PairSource, framing: Framing) -> PairSource:
    """The source, its pictures framed so."""
    return source if framing == "letterbox" else Framed(source, framing)
