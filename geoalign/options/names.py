"""What somebody meant who wrote a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

CLOSE = 0.7
"""How alike two last parts of names must be (difflib's ratio)."""
SHOWN = 12
"""A line of choices holds at most so many."""


def nearest(asked: str, known: Iterable[str], separator: str = ".") -> str | None:
    """The known name that ends most like ``asked`` and stands nearest to it; None where nothing is alike.

    >>> nearest("loss.temprature", ["matcher.temperature", "loss.dense.matcher.temperature", "loss.weights.sparse"])
    'loss.dense.matcher.temperature'
    >>> nearest("optimiser.lr", ["optimizer.lr", "scheduler.max_lr"])
    'optimizer.lr'
    """
    names = sorted(known)
    ends = difflib.get_close_matches(_last(asked, separator), {_last(n, separator) for n in names}, n=3, cutoff=CLOSE)
    alike = [name for name in names if _last(name, separator) in ends]
    alike = alike or difflib.get_close_matches(asked, names, n=1)
    first = asked.split(separator)[0]
    return max(alike, key=lambda name: (name.split(separator)[0] == first, _ratio(asked, name)), default=None)


def among(choices: Sequence[str]) -> str:
    """Choices in a line, the first dozen of many."""
    return ", ".join(choices[:SHOWN]) + (f", ... ({len(choices)})" if len(choices) > SHOWN else "")


def _last(name: str, separator: str) -> str:
    return name.rpartition(separator)[2]


def _ratio(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()
