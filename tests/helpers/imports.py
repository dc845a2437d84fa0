"""Who imports whom in the package: every import, also a late one, one for types only, one by a string."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

Graph = dict[str, set[str]]


def module_files(root: Path) -> dict[str, Path]:
    """Every module of the package in folder ``root`` by its dotted name; a package goes by its own name."""
    files = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


def import_graph(files: dict[str, Path]) -> Graph:
    """Each module with the modules of ours that it names."""
    return {module: set(_imported(module, path, files)) - {module} for module, path in files.items()}


def siblings(graph: Graph) -> Iterator[Graph]:
    """For each package its parts, a sub-package as one; the package's own ``__init__`` is its front, not a part."""
    levels: dict[str, Graph] = defaultdict(lambda: defaultdict(set))
    for module, others in graph.items():
        for other in others:
            mine, its = module.split("."), other.split(".")
            same = next(
                (i for i, (a, b) in enumerate(zip(mine, its, strict=False)) if a != b), min(len(mine), len(its))
            )
            if same < len(mine) and same < len(its):
                levels[".".join(mine[:same])][".".join(mine[: same + 1])].add(".".join(its[: same + 1]))
    yield from (levels[package] for package in sorted(levels))  # sets have another order in every process


def circle(graph: Graph) -> list[str]:
    """One circle, from importer to imported, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def _imported(module: str, path: Path, files: dict[str, Path]) -> Iterator[str]:
    front = path.name == "__init__.py"  # its strings name modules beside it
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and re.fullmatch(r"\w+(\.\w+)*", str(node.value)):
            names = [str(node.value)] * ("." in str(node.value)) + [f"{module}.{node.value}"] * front
        else:
            continue
        for name in names:
            home = name if name in files else name.rpartition(".")[0]
            if home in files:
                yield home
