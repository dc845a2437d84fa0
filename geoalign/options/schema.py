"""What constructors take, with defaults and meanings: read from their source, so that nothing heavy is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = Path(__file__).parents[1]
Definition = ast.ClassDef | ast.FunctionDef


class Parameter(NamedTuple):
    """A default as plain data (``...``: none, or none that a yaml could hold), and the line of ``Args:``."""

    default: Any
    meaning: str


def filled(node: Any) -> Any:
    """A yaml's plain data with every default of every constructor of ours that it names and does not set.

    >>> filled({"_target_": "geoalign.matching.Matcher", "radius": 5})["temperature"]
    0.02
    """
    if isinstance(node, list):
        return [filled(one) for one in node]
    if not isinstance(node, dict):
        return node
    taken = parameters(str(node.get("_target_")))
    defaults = {name: one.default for name, one in taken.items() if one.default is not ... and name not in node}
    return {key: filled(value) for key, value in node.items()} | defaults


@cache
def parameters(target: str) -> dict[str, Parameter]:
    """The options of what a target of ours names: the parameters that its docstring explains; others are for code."""
    tree, node = _definition(target)
    if tree is None or node is None:
        return {}
    said = meanings(ast.get_docstring(node) or "")
    return {name: Parameter(_plain(value, tree), said[name]) for name, value in _defaults(node) if name in said}


def about(target: str) -> str:
    """The first paragraph of the docstring of what a target of ours names; empty for other targets."""
    _, node = _definition(target)
    return " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split()) if node is not None else ""


def meanings(docstring: str) -> dict[str, str]:
    r"""What an ``Args:`` section in google's style says of each name.

    >>> meanings("Does.\n\nArgs:\n    a: first,\n        and more\n    b: second\n\nRaises: x")
    {'a': 'first, and more', 'b': 'second'}
    """
    section = re.search(r"^Args:\n((?: +.*\n?|\n(?= ))*)", docstring, re.MULTILINE)
    entries = re.findall(r"^ {4}(\w+): *(.*(?:\n {5,}.*)*)", section[1], re.MULTILINE) if section else []
    return {name: " ".join(text.split()) for name, text in entries}


@cache
def _definition(target: str) -> tuple[ast.Module, Definition] | tuple[None, None]:
    """The class or function that a target names, wherever below the named package it is written."""
    if not target.startswith(f"{PACKAGE.name}."):
        return None, None
    *rooms, name = target.split(".")[1:]
    place = PACKAGE.joinpath(*rooms)
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if re.search(rf"^(class|def) {name}\b", text, re.MULTILINE):
            tree = ast.parse(text)
            return tree, next(one for one in tree.body if isinstance(one, Definition) and one.name == name)
    return None, None


def _defaults(node: Definition) -> Iterator[tuple[str, ast.expr | None]]:
    """Name and default of every parameter; the fields of a dataclass where no ``__init__`` is written."""
    functions = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
    call = node if isinstance(node, ast.FunctionDef) else next(iter(functions), None)
    if call is None:
        for one in node.body:
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
                yield one.target.id, one.value
        return
    arguments = call.args.args[len(call.args.args) - len(call.args.defaults) :]
    written = dict(zip([*arguments, *call.args.kwonlyargs], [*call.args.defaults, *call.args.kw_defaults], strict=True))
    yield from ((one.arg, written.get(one)) for one in [*call.args.args, *call.args.kwonlyargs])


def _plain(value: ast.expr | None, tree: ast.Module) -> Any:
    """A default as a yaml holds it: constants followed, tuples as lists; ``...`` where it is no plain data."""
    if isinstance(value, ast.Name):
        return _plain(*_constant(value.id, tree))
    if isinstance(value, ast.Call) and len(value.args) == 1 and not value.keywords:  # MappingProxyType({...})
        return _plain(value.args[0], tree)
    try:
        return _lists(ast.literal_eval(value)) if value is not None else ...
    except ValueError:
        return ...


def _constant(name: str, tree: ast.Module) -> tuple[ast.expr | None, ast.Module]:
    """What a module calls by a name, and the module that says so, where it was imported from one of ours."""
    for one in tree.body:
        if isinstance(one, ast.Assign | ast.AnnAssign):
            targets = one.targets if isinstance(one, ast.Assign) else [one.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return one.value, tree
        if isinstance(one, ast.ImportFrom) and name in {alias.name for alias in one.names}:
            path = PACKAGE.parent.joinpath(*(one.module or "").split(".")).with_suffix(".py")
            return _constant(name, ast.parse(path.read_text(encoding="utf-8"))) if path.is_file() else (None, tree)
    return None, tree


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(one) for key, one in value.items()}
    return [_lists(one) for one in value] if isinstance(value, tuple | list) else value
