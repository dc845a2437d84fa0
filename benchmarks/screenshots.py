"""The web page as a browser shows it: two pictures, points, and the dense tab."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from geoalign.data.records import PairRecord


def shoot(folder: Path, pair: PairRecord, slots: Sequence[int]) -> list[Path]:
    """``demo-page.jpg`` and ``demo-dense.jpg`` of a pair into ``folder``; the source's keypoints ``slots`` are clicked.

    Raises:
        ImportError, OSError: no playwright, or no browser that it can start.
    """
    from playwright.sync_api import sync_playwright

    browser_path = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    if browser_path is None:
        raise OSError("the page's pictures need a browser; apt-get install chromium")
    with tempfile.TemporaryDirectory() as work, _served(Path(work)) as address, sync_playwright() as play:
        tab = play.chromium.launch(executable_path=browser_path, args=["--no-sandbox"]).new_page(
            viewport={"width": 1400, "height": 1000}
        )
        tab.goto(address)
        for role, record in (("source", pair.src), ("target", pair.trg)):
            tab.wait_for_selector(f"#{role} input[type=file]", state="attached", timeout=60_000)
            tab.locator(f"#{role} input[type=file]").set_input_files(record.path)
            placed(tab, role)
        height, width = pair.src.size
        for x, y in pair.src.xy_px[list(slots)] / (width, height):
            _click(tab, x, y)
        paths = [_saved(tab, folder / "demo-page.jpg")]
        tab.get_by_role("tab", name="Dense").click()
        tab.wait_for_selector("#dense img >> nth=2", timeout=60_000)
        return [*paths, _saved(tab, folder / "demo-dense.jpg")]


def placed(tab: Any, role: str) -> tuple[float, float, float, tuple[int, int]]:
    """Where a picture begins in the window (left, top), its scale and its natural size, once it is the server's."""
    tab.wait_for_function(
        "r => { const i = document.querySelector(`#${r} .picture img`);"
        "return i && Math.max(i.naturalWidth, i.naturalHeight) == 640 }",
        arg=role,
    )
    image = tab.locator(f"#{role} .picture img")
    image.scroll_into_view_if_needed()
    natural = image.evaluate("i => [i.naturalWidth, i.naturalHeight]")
    box = image.bounding_box()
    scale = min(box["width"] / natural[0], box["height"] / natural[1], 1)
    left = box["x"] + (box["width"] - natural[0] * scale) / 2
    return left, box["y"] + (box["height"] - natural[1] * scale) / 2, scale, natural


def _click(tab: Any, x: float, y: float) -> None:
    cards = tab.locator("#line .readout").inner_text()
    left, top, scale, (width, height) = placed(tab, "source")
    tab.mouse.click(left + x * width * scale, top + y * height * scale)
    changed = "before => (document.querySelector('#line .readout')?.innerText ?? before) !== before"
    tab.wait_for_function(changed, arg=cards)


def _saved(tab: Any, path: Path) -> Path:
    shot = path.with_suffix(".png")
    tab.wait_for_timeout(500)  # the page's own movements
    tab.screenshot(path=shot, full_page=True)
    Image.open(shot).convert("RGB").save(path, quality=85, optimize=True)
    shot.unlink()
    return path


@contextmanager
def _served(work: Path) -> Iterator[str]:
    words = [sys.executable, "-m", "geoalign.cli", "demo", "--device", "cpu", "--cache", str(work / "cache")]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=work)
    assert server.stdout is not None
    try:
        yield server.stdout.readline().split()[3]
    finally:
        server.terminate()
        server.wait(30)
