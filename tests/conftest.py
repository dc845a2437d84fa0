"""Fixtures of all tests."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
from coverage import Coverage
from hypothesis import settings
from PIL import ImageDraw

from geoalign.console import LOG
from geoalign.draw.text import missing_glyphs

settings.register_profile("house", deadline=None)  # a busy machine is not a failure
settings.load_profile("house")

signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # a job in the background ignores it, and so would its children

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden arrays and real samples beside the project; tests skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the golden arrays and samples at {SHARED}")
    return SHARED


@pytest.fixture(autouse=True)
def _annotations(request: pytest.FixtureRequest) -> Iterator[None]:
    """Annotations are checked, except where a test asks what the code itself refuses."""
    jaxtyping.config.update("jaxtyping_disable", request.node.get_closest_marker("unchecked") is not None)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def _tracing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Coverage, where it is on, is paused where a test says that it covers nothing of its own."""
    paused: list[Coverage] = []
    while request.node.get_closest_marker("untraced") and (one := Coverage.current()) is not None:
        one.stop()  # which lets the one below go on, where pytest's workers have two
        paused.append(one)
    yield
    for one in reversed(paused):
        one.start()


@pytest.fixture(autouse=True)
def _glyphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text on pictures is refused in every test where its font would draw a box (pyproject.toml: matplotlib's too)."""
    text = ImageDraw.ImageDraw.text

    def checked(self: ImageDraw.ImageDraw, xy: Any, words: str, *args: Any, **options: Any) -> None:
        # the drawing library's own font is for plain words
        missing = missing_glyphs(words, options["font"].path) if "font" in options else not words.isascii()
        assert not missing, f"no glyph for {missing!r} in {words!r}"
        text(self, xy, words, *args, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", checked)


@pytest.fixture(autouse=True)
def _leave_no_trace() -> Iterator[None]:
    """Hydra's jobs log into their run's folder and may ask for full errors: neither outlives its test."""
    logs = (logging.getLogger(), LOG)
    before = [list(log.handlers) for log in logs]
    yield
    for log, kept in zip(logs, before, strict=True):
        for handler in [h for h in log.handlers if h not in kept or isinstance(h, logging.FileHandler)]:
            log.removeHandler(handler)
            if isinstance(handler, logging.FileHandler):  # others write to streams that are not theirs
                handler.close()
    os.environ.pop("HYDRA_FULL_ERROR", None)
