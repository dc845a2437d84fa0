"""The web page as a browser shows it: two generated cats, three points, and the dense tab."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from geoalign.synthetic.jobs import Job

POINTS = ((0.5, 0.5), (0.3, 0.35), (0.65, 0.7))
"""That are clicked, as shares of the source."""


def shoot(folder: Path) -> list[Path]:
    """``demo-page.jpg`` and ``demo-dense.jpg`` into ``folder``.

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
        for at, role in enumerate(("source", "target")):
            path = Path(work) / f"cat{at}.png"
            Image.fromarray(Job(0, "test", "cat", at).picture().image).save(path)
            tab.wait_for_selector(f"#{role} input[type=file]", state="attached", timeout=60_000)
            tab.locator(f"#{role} input[type=file]").set_input_files(str(path))
            tab.wait_for_selector(f"#{role} img")
        for x, y in POINTS:
            _click(tab, x, y)
        paths = [_saved(tab, folder / "demo-page.jpg")]
        tab.get_by_role("tab", name="Dense").click()
        tab.wait_for_selector("#dense img >> nth=2", timeout=60_000)
        return [*paths, _saved(tab, folder / "demo-dense.jpg")]


def _click(tab: Any, x: float, y: float) -> None:
    cards = tab.locator("#line .readout").inner_text()
    box = tab.locator("#source img").last.bounding_box()
    tab.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
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
