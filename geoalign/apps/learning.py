"""What of a folder is learnt from: who is held out, labels, and who faces which way."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from geoalign.apps.photographs import Photograph
from geoalign.pseudo.facing import facing, likeness
from geoalign.pseudo.label import Labelled, Labeller, Set
from geoalign.pseudo.links import Agreement, BothFlips, Filter, WayBack

HELD_OUT = 0.2
"""Share of each kind's photographs that is held out, three or more where seven are there."""


def split(photographs: Sequence[Photograph], seed: int) -> tuple[list[Photograph], list[Photograph]]:
    """Photographs to learn from, and those of each kind to judge by, drawn by seed."""
    rng, train, held = random.Random(f"{seed}/held out"), list[Photograph](), list[Photograph]()
    for kind in sorted({one.record.category for one in photographs}):
        own = [one for one in photographs if one.record.category == kind]
        rng.shuffle(own)
        aside = max(3, round(HELD_OUT * len(own))) if len(own) >= 7 else 0  # a round takes three, as a chain does
        held, train = held + own[:aside], train + own[aside:]
    return train, held


def label(train: Sequence[Photograph], seed: int) -> Labelled:
    """Pseudo-labels of the photographs to learn from."""
    filters: dict[str, Filter | None] = {"way_back": WayBack(), "agreement": Agreement(), "flips": BothFlips()}
    labeller = Labeller(filters=filters, seed=seed, per_image=max(2, min(12, 600 // len(train))))
    return labeller.kinds([one.record for one in train], [one.subject for one in train])


def lonely(train: Sequence[Photograph], found: Labelled) -> list[str]:
    """A line on each photograph that is in no set, and one on each kind whose photographs fall into groups.

    Photographs that sets join, directly or by others, are a group; kinds that lie mixed in one folder seldom are one.
    """
    group = joined(len(train), found.sets)
    said = [
        f"{one.record.image_id}: no match with others agrees; not learnt from"
        for one, at in zip(train, group, strict=True)
        if at < 0
    ]
    for kind in sorted({one.record.category for one in train}):
        own = Counter(int(at) for one, at in zip(train, group, strict=True) if at >= 0 and one.record.category == kind)
        if len(own) > 1:
            sizes = ", ".join(map(str, sorted(own.values(), reverse=True)))
            said.append(
                f"{kind}: photographs fall into {len(own)} groups ({sizes}) without a match between them; put each "
                "kind of thing into a subfolder of its own"
            )
    return said


def doubtful(photographs: Sequence[Photograph]) -> list[str]:
    """A line on how many subjects may be more or less than the thing itself, where any may."""
    count = sum(bool(one.doubt) for one in photographs)
    what = "much of the background passes for the subject, or little of it was found; closer crops help"
    return [f"{count} of {len(photographs)} photographs are in doubt: {what}"] if count else []


def joined(count: int, sets: Sequence[Set]) -> Int[np.ndarray, "n"]:
    """The number of each photograph's group, from 0 on; -1 for those in no set."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.array([(one.images[0], at) for one in sets for at in one.images], int).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), tuple(ends.T)), shape=(count, count))
    _, group = connected_components(graph, directed=False)
    used = np.isin(np.arange(count), ends)
    group[used] = np.unique(group[used], return_inverse=True)[1]
    return np.where(used, group, -1)


def faced(photographs: Sequence[Photograph], seed: int) -> Bool[np.ndarray, "n"]:
    """Which are to be mirrored so that those of each kind face one way."""
    mirrored = np.zeros(len(photographs), bool)
    for kind in sorted({one.record.category for one in photographs}):
        own = [at for at, one in enumerate(photographs) if one.record.category == kind]
        if len(own) > 1:
            mirrored[own] = facing(likeness([photographs[at].subject for at in own], seed=seed)).mirrored
    return mirrored
