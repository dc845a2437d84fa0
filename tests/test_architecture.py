"""Data flows one way: imports point down the ranks, siblings of rank 1 are strangers, and nothing goes in a circle.

Every import counts: late ones, those for types only, and names of modules in strings (``_HOMES``, ``READERS``).
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from helpers.imports import circle, import_graph, module_files, siblings

import geoalign

ROOT = Path(geoalign.__file__).parent
RANK = {
    "bank": 0,
    "blocks": 0,
    "types": 0,
    "geometry": 0,
    "keys": 0,
    "maps": 0,
    "markdown": 0,
    "files": 0,
    "claim": 0,
    "console": 0,
    "version": 0,
    "parts": 0,
    "tensors": 0,
    "signatures": 0,
    "symmetry": 0,
    "synthetic": 0,
    "data": 1,
    "backbone": 1,
    "refiner": 1,
    "matching": 1,
    "losses": 2,
    "metrics": 2,
    "draw": 2,
    "results": 3,
    "passes": 3,
    "publish": 3,
    "pseudo": 3,
    "module": 4,
    "callbacks": 5,
    "options": 6,
    "build": 6,
    "run": 7,
    "extract": 7,
    "label": 7,
    "report": 7,
    "apps": 7,
    "demo": 8,
    "cli": 9,
}
HEAVY = {"diffusers", "transformers", "peft", "wandb", "pandas", "matplotlib", "scipy", "gradio"}

FILES = module_files(ROOT)
GRAPH = import_graph(FILES)
REMEDY = "move what both need to a lower rank, or pass it in as an argument; a late import or TYPE_CHECKING is no cure"


def _room(module: str) -> str | None:
    return module.split(".")[1] if "." in module else None


def test_every_room_has_a_rank() -> None:
    rooms = {_room(module) for module in FILES} - {None}
    assert rooms <= set(RANK), f"give these a rank: {sorted(rooms - set(RANK))}"
    assert rooms >= set(RANK), f"these are gone, take out their rank: {sorted(set(RANK) - rooms)}"


def test_imports_point_down() -> None:
    wrong = []
    for module, others in GRAPH.items():
        mine = _room(module)
        for other in others:
            its = _room(other)
            if mine is None or mine == its:  # the package's own front names the top of the house
                continue
            if its is None or RANK[its] > RANK[mine] or RANK[its] == RANK[mine] == 1:
                wrong.append(f"{module} imports {other}")
    assert not wrong, f"these point up, or from sibling to sibling; {REMEDY}:\n" + "\n".join(wrong)


def test_no_circle_of_files() -> None:
    assert not (ring := circle(GRAPH)), f"a circle of imports; {REMEDY}: {' → '.join(ring)}"


@pytest.mark.parametrize("parts", siblings(GRAPH), ids=lambda parts: min(parts).rpartition(".")[0])
def test_no_circle_of_packages(parts: dict[str, set[str]]) -> None:
    assert not (ring := circle(parts)), f"a circle of packages; {REMEDY}: {' → '.join(ring)}"


def test_circles_are_seen() -> None:
    """A front that names its parts by string, a late import back, and two packages that use each other."""
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert any(map(circle, siblings({"a.x.one": {"a.y.one"}, "a.y.two": {"a.x.two"}})))
    assert not any(map(circle, siblings({"a.x.one": {"a.x.two"}, "a.x": {"a.x.one"}})))
    assert "geoalign.data.readers.tss" in GRAPH["geoalign.data"]
    assert "geoalign.apps.loading" in GRAPH["geoalign"]


def _outside_imports(path: Path) -> list[tuple[str, bool]]:
    """The top name of every import of a file, and whether it stands at the file's top."""
    tree = ast.parse(path.read_text())
    top, names = set(map(id, tree.body)), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [(alias.name.split(".")[0], id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.append((str(node.module).split(".")[0], id(node) in top))
    return names


def test_only_options_imports_hydra() -> None:
    scripts = {f"geoalign.options.{name}" for name in ("entry", "jobs", "sweep", "plugin", "make")}
    importers = {m for m, path in FILES.items() if "hydra" in {name for name, _ in _outside_imports(path)}}
    assert importers <= scripts


def test_heavy_libraries_are_imported_late() -> None:
    wrong = [(m, name) for m, path in FILES.items() for name, top in _outside_imports(path) if top and name in HEAVY]
    assert not wrong
