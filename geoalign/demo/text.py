"""Words of the web page as html: the match, what to do next, the table of points."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from geoalign.apps.matcher import Answer
from geoalign.demo.desk import Pair
from geoalign.demo.pictures import PALETTE
from geoalign.geometry import Pose

TITLE = """<h1>geoalign</h1><p>Click a point of the source; its match lights up in the target.</p>"""
REFINER_MISSING = "None in this model; start with --model and a run's folder"
REFINER_GIVEN = "Off: the frozen features alone"


def readout(pair: Pair, answer: Answer | None, message: str = "") -> str:
    """The line below the pictures: an error, or the last match, or what is to be done next."""
    if message:
        return f'<div class="readout wrong" role="alert">{escape(message)}</div>'
    if answer is None:
        return f'<div class="readout hint" role="status">{_missing(pair)}</div>'
    cards = [_card("pose of the source", pose_in_words(answer.pose))]
    if pair.points:
        n = len(pair.points)
        cards = [
            _card(f"point {n}", f"{_place(pair.points[-1])} px", PALETTE[(n - 1) % len(PALETTE)]),
            _card("match", f"{_place(answer.xy_px[-1])} px"),
            _card("score", f"{answer.score[-1]:.2f}"),
            *cards,
        ]
    else:
        cards.append('<span class="hint">Click a point of the source.</span>')
    return f'<div class="readout" role="status">{"".join(cards)}</div>'


def pose_in_words(pose: Pose) -> str:
    """A pose as people say it.

    >>> pose_in_words(Pose(True)), pose_in_words(Pose(False, 90.0)), pose_in_words(Pose())
    ('mirrored', 'turned 90° left', 'upright')
    """
    parts = ["mirrored"] if pose.flip else []
    if pose.degrees % 360:
        parts.append("upside down" if pose.degrees == 180 else f"turned {_turn(pose.degrees)}")
    return " and ".join(parts) or "upright"


def table(pair: Pair, answer: Answer | None) -> str:
    """Every point with its match, in px of the original pictures."""
    if answer is None or not pair.points:
        return '<p class="hint">Points that you click are listed here.</p>'
    rows = "".join(
        f"<tr><td>{_swatch(PALETTE[i % len(PALETTE)])}{i + 1}</td><td>{_place(start)}</td>"
        f"<td>{_place(end)}</td><td>{score:.2f}</td></tr>"
        for i, (start, end, score) in enumerate(
            zip(pair.points, answer.xy_px.tolist(), np.asarray(answer.score).tolist(), strict=True)
        )
    )
    head = "<tr><th>point</th><th>source x, y</th><th>target x, y</th><th>score</th></tr>"
    return f'<table class="points"><thead>{head}</thead><tbody>{rows}</tbody></table>'


def _missing(pair: Pair) -> str:
    if not pair.source and not pair.target:
        return "Load two pictures, or pick an example."
    return "Load a target too." if pair.source else "Load a source too."


def _turn(degrees: float) -> str:
    return f"{degrees:g}° left" if degrees < 180 else f"{360 - degrees:g}° right"


def _place(xy_px: Sequence[float] | np.ndarray) -> str:
    return f"{xy_px[0]:.1f}, {xy_px[1]:.1f}"


def _swatch(colour: tuple[int, int, int]) -> str:
    return f'<i class="swatch" style="background: rgb{colour}"></i>'


def _card(name: str, value: str, colour: tuple[int, int, int] | None = None) -> str:
    ground = _swatch(colour) if colour else ""
    return f'<span class="card"><small>{escape(name)}</small><b>{ground}{escape(value)}</b></span>'
