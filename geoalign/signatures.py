"""What a signature takes, asked of plain values: the one schema there is."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from os import PathLike
from pathlib import PurePath
from typing import Any

Plain = (bool, int, float, str)


def parameters(called: Callable[..., Any]) -> dict[str, Any]:
    """Type by parameter, ``**`` among them where any name is taken.

    Raises:
        TypeError, ValueError or NameError: a signature that cannot be known.
    """
    signature = inspect.signature(called)
    hints = typing.get_type_hints(called.__init__ if inspect.isclass(called) else called)
    named = {name: hints.get(name, Any) for name in signature.parameters}
    return named | {"**": Any} if any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()) else named


def accepts(hint: Any, value: Any) -> bool:
    """Whether a value out of a yaml file may be meant for a parameter of this type; in doubt, yes.

    >>> accepts(int | None, 3), accepts(int, "many"), accepts(int, 2.5), accepts(float, 1), accepts(list[str], "cat")
    (True, False, False, True, False)
    """
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(accepts(part, value) for part in typing.get_args(hint))
    if origin is typing.Literal:
        return value is None or value in typing.get_args(hint)
    if value is None:
        return True  # null is a constructor's own business
    if isinstance(value, Plain):
        return _accepts_plain(origin or hint, value)
    if isinstance(value, list) and isinstance(origin, type) and issubclass(origin, Sequence):
        element = next(iter(typing.get_args(hint)), Any)
        return all(accepts(element, one) for one in value) if origin is not tuple else True
    return hint not in (*Plain, types.NoneType)


def _accepts_plain(hint: Any, value: bool | int | float | str) -> bool:
    if hint is bool:
        return isinstance(value, bool)
    if hint in (int, float):
        whole = isinstance(value, int) or (hint is float and isinstance(value, float))
        return whole and not isinstance(value, bool)
    if not isinstance(hint, type) or hint in (str, object) or issubclass(hint, (PurePath, PathLike, Enum, str)):
        return True
    return hint.__module__.startswith("typing")


def readable(hint: Any) -> str:
    """A type as a user would say it."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = typing.get_args(hint)
        plain = [part for part in parts if part is type(None) or part in WORDS or typing.get_origin(part)]
        return " or ".join(dict.fromkeys(readable(part) for part in plain or parts))
    if hint is type(None):
        return "null"
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(hint)))}"
    origin = typing.get_origin(hint) or hint
    if isinstance(origin, type) and issubclass(origin, Sequence) and origin is not str:
        return "a list"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a mapping"
    return WORDS.get(origin, str(getattr(origin, "__name__", origin)))


WORDS: dict[Any, str] = {
    bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list", dict: "a mapping",
    Callable: "a function",
}  # fmt: skip


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Leaves by dotted name, and the names of the nodes above them that hold nothing."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {k: v for key, one in value.items() for k, v in flat(one, f"{path}.{key}" if path else str(key)).items()}
