"""Parts out of files that anybody may have written: classes of geoalign's own rooms, made of plain data.

A model's folder, checkpoint or weights file names its backbone, refiner and matcher under ``_target_``, as configs do.
Configs are the user's and may call anything; these files may not: a class is taken by its name from the public names
of the one room where its type lives, everything else is refused before anything is imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from geoalign.files import MOST_DEPTH
from geoalign.signatures import accepts, parameters, readable

TARGET = "_target_"


class PartError(ValueError):
    """A file names something that is no part of geoalign, or settings that the part does not take."""


def find(target: Any, kind: type, place: str) -> type:
    """The class that ``target`` names: public in the room where ``kind`` lives, and a kind of it.

    Raises:
        PartError: any other name; ``place`` says where it stood.
    """
    room = ".".join(kind.__module__.split(".")[:2])
    named = re.fullmatch(rf"{re.escape(room)}(\.\w+)*\.([A-Za-z]\w*)", target) if isinstance(target, str) else None
    if named and named[2] in (front := import_module(room)).__all__:
        part = getattr(front, named[2])
        if isinstance(part, type) and issubclass(part, kind) and not part.__module__.endswith(".base"):
            return part
    raise PartError(
        f"{place}: expected the name of a {kind.__name__.lower()} of geoalign, got {str(target)[:80]!r}, which is not "
        "called; a model's files may name geoalign's own parts only, make others in Python"
    )


def make(node: Any, kind: type, place: str, own: type | None = None) -> Any:
    """The part of a node ``{_target_: …, option: value, …}``; nodes below it are parts of the same kind.

    ``own`` is a class of the caller's that the node may name too.

    Raises:
        PartError: a foreign name, an option that the class does not take, or a value of another type.
    """
    node = plain(node, place)
    if not isinstance(node, dict) or TARGET not in node:
        raise PartError(f"{place}: expected settings with {TARGET}, got {str(node)[:80]}; save the model again")
    target = node.pop(TARGET)
    part = own if own is not None and target == name_of(own) else find(target, kind, place)
    taken = parameters(part)
    for name, value in node.items():
        if name not in taken or name.startswith("_"):
            raise PartError(f"{place}.{name} is no option of {part.__name__}; it takes {', '.join(taken)}")
        if not accepts(taken[name], value):
            raise PartError(f"{place}.{name}={str(value)[:80]}: expected {readable(taken[name])}")
    arguments = {name: _made(value, kind, f"{place}.{name}") for name, value in node.items()}
    try:
        return part(**arguments)
    except (TypeError, RuntimeError, ArithmeticError, LookupError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise PartError(f"{place}: no {part.__name__} can be made of these settings ({reason})") from error


def plain(value: Any, place: str, depth: int = 0) -> Any:
    """``value`` itself where it is numbers, texts, lists and mappings of them, without references to elsewhere.

    Raises:
        PartError: anything else, such as the interpolation ``${oc.env:HOME}``, or too deep.
    """
    if depth > MOST_DEPTH:
        raise PartError(
            f"{place[:200]}: expected at most {MOST_DEPTH} levels of settings, got more; save the model again"
        )
    if isinstance(value, str) and "${" in value:
        raise PartError(f"{place}={value[:80]}: references are not followed in a model's files; write the value there")
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list | tuple):
        return [plain(one, f"{place}.{i}", depth + 1) for i, one in enumerate(value)]
    if isinstance(value, Mapping) and all(type(key) in (int, str) for key in value):
        return {key: plain(one, f"{place}.{key}", depth + 1) for key, one in value.items()}
    raise PartError(f"{place}: expected plain data, got a {type(value).__name__}; save the model again")


def name_of(part: type) -> str:
    """What :func:`find` knows a class by."""
    return f"{part.__module__}.{part.__qualname__}"


def _made(value: Any, kind: type, place: str) -> Any:
    """Plain data with the nodes inside made."""
    if isinstance(value, dict):
        if TARGET in value:
            return make(value, kind, place)
        return {key: _made(one, kind, f"{place}.{key}") for key, one in value.items()}
    return [_made(one, kind, f"{place}.{i}") for i, one in enumerate(value)] if isinstance(value, list) else value
