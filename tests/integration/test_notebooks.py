"""The notebooks of docs/notebooks do what they say, cell after cell in one namespace; the long one with two steps."""

import ast
import json
from pathlib import Path

import pytest
from helpers import mini
from helpers.documented import LITE, ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
FEW = [*LITE, "data.workers=0", "data.sampler.batches=2", "refiner.refiner.width=32", "refiner.refiner.hidden=32"]


def cells(path):
    """Source of every code cell."""
    return ["".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]


def execute(path):
    """As a kernel does: one namespace, the last expression of a cell is its answer; the answers."""
    known, answers = {"__name__": "__main__"}, []
    for number, source in enumerate(cells(path)):
        tree = ast.parse(source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"{path.name}:{number}", "exec"), known)
        if last is not None:
            answers.append(eval(compile(ast.Expression(last.value), f"{path.name}:{number}", "eval"), known))
    return [answer for answer in answers if answer is not None]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_kept_without_outputs(path):
    notebook = json.loads(path.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None), "strip its outputs"
            assert not any(line.startswith(("%", "!")) for line in cell["source"]), "plain Python only"


def test_own_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    drawn = execute(ROOT / "docs" / "notebooks" / "own_pictures.ipynb")
    assert "pose of the source:" in capsys.readouterr().out
    assert [picture.mode for picture in drawn] == ["RGB", "RGB"]


@pytest.mark.long
def test_livestock(tmp_path, monkeypatch, capsys):
    mini.livestock(tmp_path / "photographs")
    monkeypatch.chdir(ROOT / "docs" / "notebooks")  # where people open it; it finds the clone's root
    monkeypatch.setenv("LIVESTOCK", str(tmp_path / "photographs"))
    monkeypatch.setenv("RUN", str(tmp_path / "run"))
    monkeypatch.setenv("OVERRIDES", " ".join([*FEW, f"paths.root={tmp_path}", "trainer.accelerator=cpu"]))
    matches, curves = execute(ROOT / "docs" / "notebooks" / "livestock.ipynb")
    said = capsys.readouterr().out
    assert "refined" in said
    assert "% of those with a twin" in said
    assert matches.width > curves.width / 2
    assert Path.cwd() == ROOT


def test_without_photographs_it_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIVESTOCK", raising=False)
    with pytest.raises(FileNotFoundError, match="dataset=livestock"):
        exec(cells(ROOT / "docs" / "notebooks" / "livestock.ipynb")[0], {})
