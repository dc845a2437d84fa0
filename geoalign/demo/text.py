"""Words of the web page as html: the match, what to do next, the table of points."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from geoalign.apps.overlay import Overlay
from geoalign.apps.picture import Answer
from geoalign.demo.pair import Mark, Pair
from geoalign.demo.pictures import PALETTE
from geoalign.geometry import Pose

REFINER_MISSING = "None in this model; start with --model and a run's folder"
REFINER_GIVEN = "Off: the frozen features alone"
POSES = (("as it is", "off"), ("or mirrored", "flip"), ("mirrored or turned", "rotate"))
READOUTS = (
    ("middle of the peak", "window"), ("middle, near counts more", "kernel"), ("top of the peak", "argmax"),
    ("mean of the whole map", "soft"),
)  # fmt: skip
"""What switches are called, and the setting that each stands for."""
HELP = (
    "Click a point of the source; its match lights up in the target. Click or drag in the target to correct it. "
    "Drag elsewhere to draw a box around the subject."
)
LABELS_HELP = (
    "Correct matches, keep them as labels, load the next target. Rings are unlikely matches: they become labels only "
    "when you put them where they belong, or say that the target does not show them."
)


class Said(NamedTuple):
    """An error, and what the switches asked for that cannot be had."""

    error: str = ""
    notes: tuple[str, ...] = ()


QUIET = Said()


def title(model: str, refined: bool) -> str:
    """The page's head: what it is for, and with which model."""
    kind = "with its refiner" if refined else "frozen features"
    return f'<h1>geoalign</h1><p>{HELP}</p><p id="model">Model: <b>{escape(model)}</b>, {kind}</p>'


def readout(pair: Pair, answer: Answer | None, said: Said = QUIET) -> str:
    """The line below the pictures: an error, or the chosen match, or what is to be done next."""
    if said.error:
        return f'<div class="readout wrong" role="alert">{escape(said.error)}</div>'
    if answer is None:
        return f'<div class="readout hint" role="status">{_missing(pair)}</div>'
    cards = [_card("pose of the source", pose_in_words(answer.pose))]
    if pair.marks:
        n, one = pair.chosen, pair.marks[pair.chosen]
        name = one.name if one.name == str(n + 1) else f"{n + 1}: {one.name}"
        cards = [
            _card(f"point {name}", f"{_place(one.xy_px)} px", PALETTE[n % len(PALETTE)]),
            _card("match" + _by_hand(one), "none" if one.hidden else f"{_place(one.fixed_px or answer.xy_px[n])} px"),
            _card("how sure", sure(answer, n)),
            _card("similarity", f"{answer.score[n]:.2f}"),
            *cards,
        ]
    else:
        cards.append('<span class="hint">Click a point of the source.</span>')
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in said.notes)
    return f'<div class="readout" role="status">{"".join(cards)}{notes}</div>'


def sure(answer: Answer, number: int) -> str:
    """The probability that a match is right, in words where the target may not show the point."""
    return f"{answer.confidence[number]:.0%}" + ("" if answer.visible[number] else ", unlikely")


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
    if answer is None or not pair.marks:
        return '<p class="hint">Points that you click are listed here.</p>'
    rows = "".join(
        f"<tr{' class=chosen' if i == pair.chosen else ''}><td>{_swatch(PALETTE[i % len(PALETTE)])}{i + 1}</td>"
        f"<td>{escape(one.name)}</td><td>{_place(one.xy_px)}</td>"
        f"<td>{'not in the target' if one.hidden else _place(one.fixed_px or xy) + _by_hand(one)}</td>"
        f"<td>{sure(answer, i)}</td><td>{score:.2f}</td></tr>"
        for i, (one, xy, score) in enumerate(
            zip(pair.marks, answer.xy_px.tolist(), np.asarray(answer.score).tolist(), strict=True)
        )
    )
    names = ("point", "name", "source x, y", "target x, y", "how sure", "similarity")
    head = f"<tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>"
    return f'<div class="scroll"><table class="points"><thead>{head}</thead><tbody>{rows}</tbody></table></div>'


def labels_words(pair: Pair) -> str:
    """Which pictures have labels, and how many."""
    if not pair.labels:
        return f'<p class="hint">{LABELS_HELP}</p>'
    counts = [(one.image, sum(place is not None for place in one.points.values())) for _, one in pair.labels]
    each = ", ".join(f"{escape(name)} ({count})" for name, count in counts)
    return f'<p role="status"><b>{len(counts)} pictures with labels</b> (points that they show): {each}</p>'


def dense_words(found: Overlay) -> str:
    """What the dense tab says of its pictures."""
    doubts = "".join(f" Note: {doubt}." for doubt in found.doubts)
    pose = pose_in_words(found.pose)
    return f"{found.cells} cells, mean similarity {found.score:.2f}, pose of the source: {pose}.{doubts}"


def _by_hand(mark: Mark) -> str:
    return " (corrected)" if mark.fixed_px else ""


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
