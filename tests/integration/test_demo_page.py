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
from benchmarks.screenshots import placed
from geoalign.data.readers.folder_points import read_points
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
    assert server.wait(120) == 0, (root / "errors.txt").read_text()
    log.close()
    assert "Traceback" not in (root / "errors.txt").read_text()
    assert not list(root.glob("geoalign-demo-*")), "uploads are left behind"


@pytest.fixture(scope="module")
def tab(address):
    """A browser tab with the page, wide; it fails where the page asks another machine for anything."""
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1400, "height": 1000})
        tab.set_default_timeout(120_000)  # a busy machine is not a failure
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
    if place.locator(".picture img").count():
        place.get_by_role("button", name="Remove").click()
        place.locator(".drop").wait_for()
    place.locator("input[type=file]").set_input_files(path)


def cards(tab):
    """What the line below the pictures says, by name."""
    rows = tab.locator("#line .card").evaluate_all(
        "all => all.map(c => [c.querySelector('small').innerText, c.querySelector('b').innerText])"
    )
    return {name.lower(): value for name, value in rows}


def numbers(text):
    return [float(part) for part in text.replace("px", "").split(",")]


def click(tab, role, share_x, share_y, to=None):
    """A click on a picture at shares of its width and height, or a drag from there ``to`` others."""
    before = tab.locator("#line .readout").inner_text()
    left, top, scale, (width, height) = placed(tab, role)
    ends = [
        (left + x * width * scale, top + y * height * scale) for x, y in [(share_x, share_y), *([to] if to else [])]
    ]
    tab.mouse.move(*ends[0])
    tab.mouse.down()
    if to:
        tab.mouse.move(*ends[1], steps=3)
    tab.mouse.up()
    changed = "before => (document.querySelector('#line .readout')?.innerText ?? before) !== before"
    tab.wait_for_function(changed, arg=before)


def test_upload_click_and_read(tab, pictures, tmp_path):
    for role, path in zip(("source", "target"), pictures, strict=True):
        upload(tab, role, path)
    tab.wait_for_selector("#line :text('Click a point')")
    assert "lite" in tab.locator("#model").inner_text()
    click(tab, "source", 0.5, 0.5)
    told = cards(tab)
    with Image.open(pictures[0]) as source:
        middle = [source.width / 2, source.height / 2]
    assert np.abs(np.subtract(numbers(told["point 1"]), middle)).max() <= 1
    answer = geoalign.load("lite", device="cpu").match(*pictures, [numbers(told["point 1"])])
    assert np.abs(np.subtract(numbers(told["match"]), answer.xy_px[0])).max() <= 1
    assert float(told["similarity"]) == pytest.approx(answer.score[0], abs=0.02)
    assert told["how sure"].startswith(f"{answer.confidence[0]:.0%}")
    assert told["pose of the source"] == "upright"

    tab.wait_for_selector("#get-json:not([disabled])")
    with tab.expect_download() as download:
        tab.locator("#get-json").click()
    match = json.loads(download.value.path().read_text())["matches"][0]
    assert np.abs(np.subtract(match["target"], answer.xy_px[0])).max() <= 1

    left, top, scale, natural = placed(tab, "target")
    with Image.open(pictures[1]) as target:
        x, y = answer.xy_px[0] / [target.width, target.height] * natural
    tab.screenshot(path=tmp_path / "wide.png")
    with Image.open(tmp_path / "wide.png") as page:
        colour = np.asarray(page.convert("RGB"))[round(top + y * scale), round(left + x * scale)]
    assert np.abs(colour.astype(int) - [230, 75, 60]).max() < 60  # the first point's colour, where the match is


def test_a_corrected_match_becomes_a_label(tab, pictures):
    click(tab, "target", 0.3, 0.6)
    click(tab, "target", 0.3, 0.6, to=(0.4, 0.25))  # the mark is dragged
    place = numbers(cards(tab)["match (corrected)"])
    with Image.open(pictures[1]) as target:
        size = target.size
    assert np.abs(np.subtract(place, np.multiply(size, (0.4, 0.25)))).max() <= 2
    click(tab, "target", 0.7, 0.7)
    tab.locator("#undo").click()
    tab.wait_for_selector(f"#line :text('{place[0]:.1f}, {place[1]:.1f}')")
    tab.get_by_role("button", name="By keyboard").click()
    for field, text in (("name", "nose"), ("add", "20, 30")):
        tab.locator(f"#{field} textarea, #{field} input").fill(text)
        tab.locator(f"#{field} textarea, #{field} input").press("Enter")
        tab.wait_for_selector(f"#rows td:text-matches('{text if field == 'name' else '20.0, 30.0'}')")
    tab.locator("#not").click()
    tab.wait_for_selector("#rows :text('not in the target')")
    tab.locator("#keep").click()
    tab.wait_for_selector("#labels :text('2 pictures')")
    tab.wait_for_selector("#get-labels-csv:not([disabled])")
    with tab.expect_download() as download:
        tab.locator("#get-labels-csv").click()
    marks = read_points(download.value.path().rename(download.value.path().with_suffix(".csv")))
    assert marks["cat1.png"].points["2"] is None
    assert np.abs(np.subtract(marks["cat1.png"].points["nose"], place)).max() <= 0.1


UNNAMED = """() => [...document.querySelectorAll('button, input, textarea, select')]
  .filter(e => e.getClientRects().length && !e.disabled)
  .filter(e => !(e.innerText?.trim() || e.ariaLabel || e.title || e.labels?.length && e.labels[0].innerText.trim()
    || e.getAttribute('aria-labelledby') || e.querySelector('img[alt]')))
  .map(e => e.outerHTML.slice(0, 200))"""
FOCUSED = """() => { const e = document.activeElement;
  return e === document.body ? null : `${e.tagName} ${e.type} ${e.name} ${e.innerText} ${e.closest('[id]')?.id}` }"""
WANTED = """() => [...document.querySelectorAll('button, input, textarea, select')]
  .filter(e => e.getClientRects().length && !e.disabled && (e.type !== 'radio' || e.checked))
  .filter(e => e.type !== 'file' && !(e.tabIndex < 0 && e.role === 'tab'))
  .map(e => `${e.tagName} ${e.type} ${e.name} ${e.innerText} ${e.closest('[id]')?.id}`)"""
FAINT = """() => {
  const parse = c => (c.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b };
  const over = (top, below) => { const a = top[3] ?? 1; return [0, 1, 2].map(i => top[i] * a + below[i] * (1 - a)) };
  const ground = e => e ? over(parse(getComputedStyle(e).backgroundColor), ground(e.parentElement)) : [255, 255, 255];
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && /[\\p{L}\\p{N}]/u.test(n.textContent));
    if (!own || !e.getClientRects().length || e.closest('[disabled], .toast-wrap, svg, .caption-label')) continue;
    const style = getComputedStyle(e), back = ground(e);
    if (style.visibility === 'hidden' || !+style.opacity) continue;
    const [a, b] = [light(over(parse(style.color), back)), light(back)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
    const ratio = (a + 0.05) / (b + 0.05);
    const said = `${ratio.toFixed(2)} ${e.innerText.slice(0, 40)} ${style.color} on ${back}`;
    if (ratio < (large ? 3 : 4.5)) found.push(said);
  }
  return found }"""


def test_controls_have_names_contrast_and_are_reached_by_keyboard(tab):
    """WCAG 2.1 AA: 1.4.3 contrast in light and dark, 2.1.1 keyboard, 4.1.2 names."""
    assert tab.evaluate(UNNAMED) == []
    for dark in (True, False):
        tab.evaluate("dark => document.body.classList.toggle('dark', dark)", dark)
        tab.wait_for_timeout(400)  # colours fade
        assert tab.evaluate(FAINT) == [], "dark" if dark else "light"
    wanted, reached = set(tab.evaluate(WANTED)), set()
    tab.evaluate("() => document.activeElement.blur()")
    for _ in range(2 * len(wanted) + 10):
        tab.keyboard.press("Tab")
        reached.add(tab.evaluate(FOCUSED))
    assert wanted - reached == set()


def test_switches_and_the_dense_tab(tab):
    tab.get_by_label("or mirrored").check()
    tab.wait_for_selector("#line b:text-matches('mirrored|upright')")
    tab.get_by_role("tab", name="Dense").click()
    tab.wait_for_selector("#dense img >> nth=2")
    assert "mean similarity" in tab.locator("#dense-words").inner_text()
    assert tab.get_by_label("Refiner").is_enabled()  # the one in the box


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
