"""Evaluation batches that meet each image as seldom as possible: sets of images, and all pairs among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence

from torch.utils.data import Sampler

Ends = tuple[Hashable, Hashable]


def pack_pairs(pairs: Sequence[Ends], max_images: int, max_pairs: int) -> list[list[int]]:
    """Every pair in one batch of at most ``max_images`` images and ``max_pairs`` pairs.

    A batch starts from the image with most pairs left and takes, image by image, the one that completes most pairs
    with those it holds. A category of no more than ``max_images`` images is met once.

    >>> pack_pairs([("a", "b"), ("c", "d"), ("b", "a")], max_images=2, max_pairs=9)
    [[0, 2], [1]]
    """
    if max_images < 2 or max_pairs < 1:
        raise ValueError(f"a batch holds at least 2 images and 1 pair, got {max_images} and {max_pairs}")
    left: dict[Hashable, dict[int, Hashable]] = {}  # of each image: its pairs and their other ends
    for index, (a, b) in enumerate(pairs):
        left.setdefault(a, {})[index] = b
        left.setdefault(b, {})[index] = a
    batches: list[list[int]] = []
    while any(left.values()):
        found = sorted(_set_of_images(left, max_images))
        for index in found:
            for end in set(pairs[index]):
                del left[end][index]
        batches += [found[at : at + max_pairs] for at in range(0, len(found), max_pairs)]
    return batches


def _set_of_images(left: Mapping[Hashable, Mapping[int, Hashable]], max_images: int) -> set[int]:
    """Pairs within one greedily grown set of images; ties go to the image with most pairs left, then the first."""
    place = {image: -at for at, image in enumerate(left)}
    grown: set[Hashable] = set()
    gain: Counter[Hashable] = Counter()
    found: set[int] = set()
    while len(grown) < max_images:
        candidates = gain or {image: 0 for image, rest in left.items() if rest and image not in grown}
        if not candidates:
            break
        best = max(candidates, key=lambda image: (candidates[image], len(left[image]), place[image]))
        if grown and not gain and not _fits(left, best, max_images - len(grown)):
            break  # a part of another category would only be met again
        grown.add(best)
        gain.pop(best, None)
        for index, other in left[best].items():
            if other in grown:
                found.add(index)
            else:
                gain[other] += 1
    return found


def _fits(left: Mapping[Hashable, Mapping[int, Hashable]], image: Hashable, room: int) -> bool:
    """Whether all that is connected with ``image`` is at most ``room`` images."""
    met, ahead = {image}, [image]
    while ahead and len(met) <= room:
        new = set(left[ahead.pop()].values()) - met
        met |= new
        ahead += new
    return len(met) <= room


class PackedSampler(Sampler[list[int]]):
    """Batch sampler for evaluation: every position of ``pairs`` once, in the batches of :func:`pack_pairs`.

    ``pairs`` are the two images of each sample. A batch's bank holds at most ``max_images`` images, in as many poses
    as are asked for.
    """

    def __init__(self, pairs: Sequence[Ends], max_images: int, max_pairs: int) -> None:
        self.batches = pack_pairs(pairs, max_images, max_pairs)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)
