"""Data flows one way: a module imports only from ranks at or below its own, and siblings of rank 1 are strangers."""

import ast
from pathlib import Path

import geoalign

ROOT = Path(geoalign.__file__).parent
RANK = {
    "types": 0,
    "geometry": 0,
    "keys": 0,
    "files": 0,
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
    "module": 4,
    "callbacks": 5,
    "options": 6,
    "build": 6,
    "run": 7,
    "extract": 7,
    "report": 7,
    "apps": 7,
    "demo": 8,
}
HEAVY = {"diffusers", "transformers", "wandb", "pandas", "matplotlib", "scipy", "gradio"}


def _imports(path):
    """Every (module, is_top_level) that a file imports."""
    tree = ast.parse(path.read_text())
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module, id(node) in top


def _room(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def _files():
    return [p for p in ROOT.rglob("*.py") if p.parent != ROOT or p.name != "__init__.py"]


def test_every_room_has_a_rank():
    rooms = {p.relative_to(ROOT).parts[0].removesuffix(".py") for p in _files()}
    assert rooms <= set(RANK), f"give these a rank: {sorted(rooms - set(RANK))}"


def test_imports_point_down():
    wrong = []
    for path in _files():
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for name, _ in _imports(path):
            other = _room(name) if name and name.split(".")[0] == "geoalign" else None
            if other is None or other == room:
                continue
            if RANK[other] > RANK[room] or RANK[other] == RANK[room] == 1:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_only_build_and_the_scripts_import_hydra():
    allowed = {"build", "entry"}  # entry makes the scripts' mains
    imports = {p: {n.split(".")[0] for n, _ in _imports(p) if n} for p in _files()}
    assert not [p for p, names in imports.items() if "hydra" in names and p.stem not in allowed]


def test_heavy_libraries_are_imported_late():
    wrong = [(p, n) for p in _files() for n, top in _imports(p) if top and n and n.split(".")[0] in HEAVY]
    assert not wrong
