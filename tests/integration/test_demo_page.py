"""The web page in a real browser, as people meet it: load, click, read, take away."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from helpers.desk import bad_file
from PIL import Image

import geoalign
from geoalign.synthetic.jobs import Job

pytest.importorskip("gradio", reason="needs gradio; pip install 'geoalign[demo]'")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright; pip install 'geoalign[dev]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a browser; apt-get install chromium")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two synthetic cats."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(2):
        Image.fromarray(Job(0, "test", "cat", i).picture().image).save(folder / f"cat{i}.png")
    return [folder / f"cat{i}.png" for i in range(2)]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page as the command serves it."""
    root = tmp_path_factory.mktemp("served")
    words = [sys.executable, "-m", "geoalign.cli", "demo", "--device", "cpu", "--cache", str(root / "cache")]
    environment = {**os.environ, "TMPDIR": str(root)}
    log = (root / "errors.txt").open("w")
    server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, cwd=root)
    told = server.stdout.readline()
    assert told.startswith("geoalign demo at http://127.0.0.1:"), (root / "errors.txt").read_text()
    yield told.split()[3]
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) == 0
    log.close()
    assert "Traceback" not in (root / "errors.txt").read_text()
    assert not list(root.glob("geoalign-demo-*")), "uploads are left behind"


@pytest.fixture(scope="module")
def tab(address):
    """A browser tab with the page, wide; it fails where the page asks another machine for anything."""
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1400, "height": 1000})
        asked = set()
        tab.on("request", lambda request: asked.add(request.url.split("/")[2]) if "://" in request.url else None)
        tab.goto(address)
        tab.wait_for_selector("#source input[type=file]", state="attached", timeout=60_000)
        yield tab
        browser.close()
        assert asked == {address.split("/")[2]}


def upload(tab, role, path):
    """Whatever was there, then the file."""
    place = tab.locator(f"#{role}")
    if place.locator("img").count():
        place.get_by_label("Remove Image").click()
        place.locator("img").wait_for(state="detached")
    place.locator("input[type=file]").set_input_files(path)


def placed(tab, role):
    """The picture's box in the window and its natural size, once it is the server's."""
    tab.wait_for_function(
        "r => { const i = document.querySelector(`#${r} img`);"
        "return i && Math.max(i.naturalWidth, i.naturalHeight) == 640 }",
        arg=role,
    )
    image = tab.locator(f"#{role} img")
    image.scroll_into_view_if_needed()
    natural = image.evaluate("i => [i.naturalWidth, i.naturalHeight]")
    box = image.bounding_box()
    scale = min(box["width"] / natural[0], box["height"] / natural[1], 1)
    left = box["x"] + (box["width"] - natural[0] * scale) / 2
    return left, box["y"] + (box["height"] - natural[1] * scale) / 2, scale, natural


def cards(tab):
    """What the line below the pictures says, by name."""
    rows = tab.locator("#line .card").evaluate_all(
        "all => all.map(c => [c.querySelector('small').innerText, c.querySelector('b').innerText])"
    )
    return {name.lower(): value for name, value in rows}


def numbers(text):
    return [float(part) for part in text.replace("px", "").split(",")]


def test_upload_click_and_read(tab, pictures, tmp_path):
    for role, path in zip(("source", "target"), pictures, strict=True):
        upload(tab, role, path)
    tab.wait_for_selector("#line :text('Click a point')")
    left, top, scale, natural = placed(tab, "source")
    tab.mouse.click(left + 0.5 * natural[0] * scale, top + 0.5 * natural[1] * scale)
    tab.wait_for_selector("#line .card:has-text('match')")
    told = cards(tab)
    with Image.open(pictures[0]) as source:
        middle = [source.width / 2, source.height / 2]
    assert np.abs(np.subtract(numbers(told["point 1"]), middle)).max() <= 1
    answer = geoalign.load("lite", device="cpu").match(*pictures, [numbers(told["point 1"])])
    assert np.abs(np.subtract(numbers(told["match"]), answer.xy_px[0])).max() <= 1
    assert float(told["score"]) == pytest.approx(answer.score[0], abs=0.02)
    assert told["pose of the source"] == "upright"

    tab.wait_for_selector("#get-json:not([disabled])")
    with tab.expect_download() as download:
        tab.locator("#get-json").click()
    match = json.loads(download.value.path().read_text())["matches"][0]
    assert np.abs(np.subtract(match["target"], answer.xy_px[0])).max() <= 1

    left, top, scale, natural = placed(tab, "target")
    with Image.open(pictures[1]) as target:
        x, y = answer.xy_px[0] / [target.width, target.height] * natural
    shot = tmp_path / "wide.png"
    tab.screenshot(path=shot)
    with Image.open(shot) as page:
        colour = np.asarray(page.convert("RGB"))[round(top + y * scale), round(left + x * scale)]
    assert np.abs(colour.astype(int) - [230, 75, 60]).max() < 60  # the first point's colour, where the match is


def test_switches_and_the_dense_tab(tab):
    tab.get_by_label("flip").check()
    tab.wait_for_selector("#line b:text-matches('mirrored|upright')")
    tab.get_by_role("tab", name="Dense").click()
    tab.wait_for_selector("#dense img >> nth=2")
    assert "mean score" in tab.locator("#dense-words").inner_text()
    assert tab.get_by_label("Refiner").is_disabled()


@pytest.mark.parametrize("what", ["text", "empty"])
def test_a_bad_file_is_told_on_the_page(tab, tmp_path, what):
    upload(tab, "source", bad_file(tmp_path, what))
    words = {"text": "not a picture", "empty": "0 bytes"}[what]
    tab.wait_for_selector(f"#line [role=alert]:has-text('{words}')")
    assert "Traceback" not in tab.locator("body").inner_text()


def test_a_good_upload_ends_what_was_said_of_a_bad_one(tab, pictures, tmp_path):
    (tmp_path / "big.png").write_bytes(b"0" * (41 * 2**20))
    for path, said in ((bad_file(tmp_path, "text"), "#line [role=alert]"), (tmp_path / "big.png", ".toast-body")):
        upload(tab, "source", pictures[0])
        placed(tab, "source")
        assert not tab.locator("[role=alert]:visible").count()
        upload(tab, "source", path)
        tab.wait_for_selector(said)
        tab.wait_for_selector("#source img", state="detached")
        upload(tab, "source", pictures[0])
        placed(tab, "source")
        tab.wait_for_selector(".toast-body", state="detached", timeout=5000)  # by itself it goes after ten seconds
        assert not tab.locator("[role=alert]:visible").count()


def test_an_example_fits_a_narrow_window(tab, tmp_path):
    tab.set_viewport_size({"width": 400, "height": 850})
    tab.locator("#examples button:has(img)").first.click()
    placed(tab, "source")
    placed(tab, "target")
    assert tab.evaluate("() => document.documentElement.scrollWidth") <= 400
    tab.screenshot(path=tmp_path / "narrow.png", full_page=True)
