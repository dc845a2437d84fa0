"""Numbers that change over training: a function of the step alone, so that ranks and resumption change nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from geoalign.geometry import Real


@dataclass(frozen=True)
class Cosine:
    """``start`` up to one step, then half a cosine to ``end`` at another, and ``end`` from there on.

    Args:
        start: the first value.
        end: the last value.
        since: where it starts to change.
        until: where it has arrived.
        unit: share: of all steps of the training | steps: of the optimiser.

    Raises:
        ValueError: a unit that is not listed, or places that do not follow each other.

    >>> [round(Cosine(3.0, 1.0, 100, 300, "steps").at(step, None), 3) for step in (0, 100, 200, 250, 300, 900)]
    [3.0, 3.0, 2.0, 1.293, 1.0, 1.0]
    """

    start: Real
    end: Real
    since: Real = 0.0
    until: Real = 1.0
    unit: Literal["share", "steps"] = "share"

    def __post_init__(self) -> None:
        if self.unit not in ("share", "steps"):
            raise ValueError(f"a schedule's unit is share or steps, got {self.unit!r}")
        if not 0 <= self.since < self.until:
            raise ValueError(f"a schedule goes on after it starts: 0 <= since < until, got {self.since}, {self.until}")
        if self.unit == "share" and self.until > 1:
            raise ValueError(f"a schedule ends with the training: until <= 1 with unit=share, got {self.until:g}")

    def at(self, step: int, steps: int | None) -> float:
        """The value after ``step`` of ``steps`` optimiser steps."""
        if self.unit == "share" and steps is None:
            raise ValueError("shares of a training without end are not known; set trainer.max_epochs, or unit=steps")
        whole = 1 if self.unit == "steps" or steps is None else max(steps, 1)
        share = (step / whole - self.since) / (self.until - self.since)
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * min(max(share, 0.0), 1.0))) / 2

    def check(self, option: str, steps: int | None) -> None:
        """Refuse a training of ``steps`` that stops before it has arrived; ``option`` is its name.

        Raises:
            ValueError: steps expected and there, and the remedy.
        """
        if self.unit == "steps" and steps is not None and self.until > steps:
            raise ValueError(
                f"{option} arrives at step {self.until:g}, training has {steps} steps; train longer, set "
                f"{option}.until<={steps}, or {option}.unit=share with since and until as shares of the training"
            )


Scheduled = Real | Cosine
"""A number, or one that changes over training."""


def value_at(value: Scheduled, step: int, steps: int | None) -> float:
    """The number itself, or the schedule's value at a step."""
    return value.at(step, steps) if isinstance(value, Cosine) else float(value)
