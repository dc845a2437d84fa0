"""Text on pictures: every sign that is written has a glyph in the font that writes it."""

import ast
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import geoalign
from geoalign.draw.curves import save_curves, smoothed
from geoalign.draw.text import font, missing_glyphs, write

PACKAGE = Path(geoalign.__file__).parent


def _strings(path):
    """Every string of a module but its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    said = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, documented)}
    constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return [value for value in constants if isinstance(value, str) and value not in said]


def test_every_string_of_modules_that_draw_can_be_drawn():
    drawing = [path for path in PACKAGE.rglob("*.py") if "geoalign.draw" in path.read_text(encoding="utf-8")]
    assert len(drawing) > 10
    texts = {text: path.name for path in drawing for text in _strings(path)}
    assert "→" in "".join(texts), "the strings that are written are among them"
    assert {text: name for text, name in texts.items() if missing_glyphs(text)} == {}


def test_a_sign_is_drawn_as_itself():
    box = bytes(font(24).getmask("\ufffe"))  # what a font draws for a sign that it lacks
    for sign in "→±✓·–°é":
        assert not missing_glyphs(sign)
        assert bytes(font(24).getmask(sign)) != box
    assert bytes(font(24).getmask("羊")) == box
    assert missing_glyphs("a羊b羊") == "羊"


def test_a_missing_glyph_fails_the_test_that_draws_it(tmp_path):
    page = Image.new("RGB", (40, 40))
    with pytest.raises(AssertionError, match="'羊'"):
        write(ImageDraw.Draw(page), (20, 20), "羊", 12)
    with pytest.raises(UserWarning, match=r"Glyph .* missing"):
        save_curves({"羊": {"a": ([0, 1], [1, 2])}}, tmp_path / "curves.png")


def test_curves_of_many_points_are_smoothed_and_levels_are_dashed(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path: seen.append(figure))
    many = list(range(100))
    plots = {"loss": {"total": (many, [float(i % 2) for i in many])}, "PCK": {"a": ([0, 1], [1.0, 2.0]), "b": ([], [])}}
    save_curves(plots, tmp_path / "curves.png", levels={"a": 1.5})
    loss, pck = seen[0].axes
    pale, smooth = loss.lines
    assert pale.get_alpha() < 0.5
    assert np.std(smooth.get_ydata()) < 0.5 * np.std(pale.get_ydata())
    dashed = pck.lines[1]
    assert (dashed.get_linestyle(), dashed.get_ydata()[0]) == ("--", 1.5)
    assert pck.get_legend().get_title().get_text() == "dashed: zero-shot"
    assert not loss.get_legend().get_title().get_text()


def test_smoothing_is_the_mean_of_the_neighbours():
    values = np.random.default_rng(0).normal(size=90)
    expected = [values[max(0, i - 4) : i + 5].mean() for i in range(90)]
    np.testing.assert_allclose(smoothed(values.tolist()), expected)
